//! palisade-volume
