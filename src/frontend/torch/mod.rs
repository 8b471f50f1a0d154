//! PyTorch archives: TorchScript's `.pt` and torch.export's `.pt2`, read without torch (docs/torch.md).

pub mod archive;
