//! TorchScript archives: source and attributes read, `forward` walked with known shapes, each tensor operator handed to the
//! lowering (docs/torch.md).

mod ast;
mod lexer;
mod parser;
