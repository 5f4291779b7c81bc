//! Lists, a page at a time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Resources on one page when the client does not say.
pub const PAGE_ITEMS: usize = 100;

/// Most resources on one page.
pub const PAGE_ITEMS_MAX: usize = 1000;

/// Resources in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The resources.
    pub items: Vec<T>,
    /// Give this as `after` to get what follows; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
