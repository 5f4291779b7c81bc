//! palisade-assembly
