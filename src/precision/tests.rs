//! Rules of the conversion, each on a small model.
