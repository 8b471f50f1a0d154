//! Readers and writers of model files. Every frontend ends in [`crate::model::Model`].

pub mod onnx;
pub mod torch;
