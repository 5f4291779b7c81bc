//! Any bytes where a machine that joins, or the node that it asks, reads a frame, a token, a certificate or a request for one:
//! each is read or refused, and what is read is written again as it was.

#![no_main]

use libfuzzer_sys::fuzz_target;
use palisade_model::Cluster;
use palisade_trust::join::codec::{ANSWER_FRAME_BYTES_MAX, JoinFrame};
use palisade_trust::join::judge;
use palisade_trust::{NodeCertificate, TokenText, authority};

fuzz_target!(|data: &[u8]| {
    if let Ok(frame) = JoinFrame::decode(data, ANSWER_FRAME_BYTES_MAX) {
        let again = JoinFrame::decode(&frame.encode(), ANSWER_FRAME_BYTES_MAX);
        assert_eq!(again.as_ref(), Ok(&frame));
        if let JoinFrame::Join(request) = &frame {
            // A cluster without tokens lets nobody in, whatever is asked.
            let refused = judge(request, &Cluster::empty(), 0).expect_err("there is no token");
            assert!(!refused.to_string().is_empty());
        }
    }
    if let Ok(text) = str::from_utf8(data)
        && let Ok(token) = text.parse::<TokenText>()
    {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    // Read without a look at who has signed it.
    if let Ok(certificate) = NodeCertificate::from_der(data.to_vec()) {
        assert!(!certificate.identity().node.is_nil());
        let _ = certificate.renew_when_s();
    }
    let _ = authority::request_key_sum(data);
});
