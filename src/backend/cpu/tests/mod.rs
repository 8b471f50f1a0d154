//! Tests of the backend as a whole. What it computes is judged by tests/python against the node suite and ONNX Runtime.

mod documented;
