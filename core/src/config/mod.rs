//! Placeholder title page; its owner writes it.
