//! palisade-virtio
