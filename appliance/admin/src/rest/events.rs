//! What happened: a page of events, or a stream of them (server-sent events, as the HTML standard has them).

use super::openapi::AnyProblem;
use super::query::{EventsFormat, EventsQuery};
use super::{Answer, Door};
use crate::limits::{EVENTS_BATCH, EVENTS_PERIOD, KEEP_ALIVE_PERIOD};
use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use palisade_api::{Event, EventPage, Problem, ProblemKind, routes};
use std::convert::Infallible;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

/// Events, oldest first: as a stream that goes on (`text/event-stream`), or with `?format=json` as a page.
///
/// In the stream each event has its id, its kind as name and the JSON of `Event` as data. A client that comes back with
/// Last-Event-ID gets what it missed; when some of that is no longer kept, an event named `lost` comes first.
#[utoipa::path(get, operation_id = "list_events", path = routes::EVENTS, tag = "node",
    params(EventsQuery, ("Last-Event-ID" = Option<String>, Header, description = "Goes before `after`.")), responses(
    (status = 200, description = "Events.", content(
        (EventPage = "application/json"),
        (String = "text/event-stream"),
    )),
    AnyProblem,
))]
pub(super) async fn list(State(door): State<Door>, query: EventsQuery) -> Answer {
    if query.format == Some(EventsFormat::Json) {
        let page = door.call(move |appliance| {
            Answer::json(&match query.last {
                Some(count) => appliance.events_last(count),
                None => appliance.events_after(&query.after, query.limit),
            })
        });
        return page.await.into();
    }
    let Ok(place) = door.streams.clone().try_acquire_owned() else {
        return Answer::Problem(Problem::new(
            ProblemKind::Unavailable,
            "too_many_streams",
            "as many clients follow the events as there may be",
            "ask for pages instead: /v1/events?format=json&after=ID",
        ));
    };
    let (sender, receiver) = mpsc::channel(EVENTS_BATCH);
    tokio::spawn(feed(door, query, sender, place));
    let stream =
        Sse::new(ReceiverStream::new(receiver)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_PERIOD));
    Answer::Ready(stream.into_response())
}

/// Hands events over as they come, until the client goes or the server stops.
async fn feed(
    door: Door,
    EventsQuery {
        mut after, mut last, ..
    }: EventsQuery,
    sender: mpsc::Sender<Result<Sent, Infallible>>,
    _place: OwnedSemaphorePermit,
) {
    let mut stopping = door.stopping.clone();
    loop {
        let (asked, count) = (after.clone(), last.take());
        let Ok(page) = door
            .call(move |appliance| match count {
                Some(count) => appliance.events_last(count),
                None => appliance.events_after(&asked, EVENTS_BATCH),
            })
            .await
        else {
            return;
        };
        if page.lost
            && sender
                .send(Ok(Sent::default().event("lost").data("{}")))
                .await
                .is_err()
        {
            return;
        }
        // Also when there are none: an id that was never given is not asked for again.
        let next = page.next.unwrap_or(after.clone());
        let full = page.items.len() == EVENTS_BATCH && next != after;
        for event in page.items {
            if sender.send(Ok(sent(&event))).await.is_err() {
                return;
            }
        }
        after = next;
        if full {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(EVENTS_PERIOD) => {}
            () = sender.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

fn sent(event: &Event) -> Sent {
    // A kind has no line break; should one ever have, it must not break the stream.
    let name = event.kind.replace(['\r', '\n'], " ");
    let sent = Sent::default().id(event.id.to_string()).event(name);
    let data = serde_json::to_string(event).unwrap_or_default();
    sent.data(data)
}
