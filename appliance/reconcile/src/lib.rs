//! palisade-reconcile
