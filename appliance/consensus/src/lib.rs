//! palisade-consensus
