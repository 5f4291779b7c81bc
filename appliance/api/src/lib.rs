//! palisade-api
