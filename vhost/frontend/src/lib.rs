//! palisade-frontend
