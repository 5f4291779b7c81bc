//! palisade-admin
