//! PyTorch's archives, read without libtorch: `.pt2` (torch.export) and TorchScript (docs/torch.md).
//!
//! Both readers walk their own form of the program and make ATen calls on [`lower::Lowering`], which emits a graph of
//! ONNX operators. Nothing in a file is ever executed.

pub mod archive;
pub mod lower;
pub mod pickle;
pub mod pt2;
pub mod torchscript;
