//! Convolutions and pooling over tensors whose channels lie side by side ([N, H, W, C], in ONNX's terms the transpose of
//! [N, C, H, W]): rows of a matrix product are read where they lie, and vectors run along the channels, however small a
//! plane is.

mod band;
pub mod dense;
pub mod depthwise;
pub mod layout;
pub mod pool;
pub mod tile;
pub mod weights;
pub mod winograd;

#[cfg(test)]
mod tests;
