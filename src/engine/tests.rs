//! The engine room tried with a backend that doubles its inputs.

use super::*;
use crate::backend::*;
use crate::device::Buffer;
use crate::error::ErrorCode;
use crate::model::{DataType, Dim, ValueInfo, ValueType};
use crate::{Result, err};
use std::path::PathBuf;
use std::sync::Arc;

struct Doubler(EngineInfo);

impl LoadedEngine for Doubler {
    fn info(&self) -> &EngineInfo {
        &self.0
    }
    fn inspect(&self) -> serde_json::Value {
        serde_json::json!([])
    }
    fn sections(&self) -> Result<Vec<Section>> {
        Ok(vec![
            Section { name: "a", parts: vec![PartSource::Zeros(5000), PartSource::Bytes(vec![7; 10].into())] },
            Section { name: "b", parts: vec![] },
        ])
    }
    fn open_context(self: Arc<Self>, _: Option<&Arc<crate::device::SharedMemory>>) -> Result<Box<dyn BackendContext>> {
        Ok(Box::new(DoublerContext))
    }
}

struct DoublerContext;

impl BackendContext for DoublerContext {
    fn run(&mut self, inputs: &[Value], outputs: &mut [Option<Value>], _: &RunControl) -> Result<()> {
        for (input, output) in inputs.iter().zip(outputs) {
            let t = input.as_tensor()?;
            let doubled: Vec<f32> = t.to_f64()?.iter().map(|v| 2.0 * *v as f32).collect();
            let bytes: &[u8] = bytemuck::cast_slice(&doubled);
            match output {
                Some(Value::Tensor(o)) => o.buffer().write(o.offset(), bytes)?,
                Some(_) => return Err(err!(Internal, "not a tensor")),
                None => *output = Some(Value::Tensor(TensorValue::copy_of(t.dtype(), t.dims().to_vec(), bytes)?)),
            }
        }
        Ok(())
    }
    fn activation_bytes(&self) -> Option<u64> {
        Some(0)
    }
}

/// Two inputs, `x` [N,3] and `y` [N,M], and an output for each.
fn engine() -> Arc<Engine> {
    let io = |name: &str, dims: Vec<Dim>| {
        IoInfo::of(&ValueInfo::new(name, ValueType::tensor(DataType::Float32, Some(dims))))
    };
    let info = EngineInfo {
        backend: "cpu".into(),
        backend_version: "0".into(),
        inputs: vec![io("x", vec![Dim::symbol("N"), Dim::known(3)]), io("y", vec![Dim::symbol("N"), Dim::symbol("M")])],
        outputs: vec![
            io("x2", vec![Dim::symbol("N"), Dim::known(3)]),
            io("y2", vec![Dim::symbol("N"), Dim::unknown()]),
        ],
        weight_bytes: 0,
        activation_bytes: None,
        half_nodes: 0,
        float_nodes: 2,
        nodes: 2,
    };
    engine::tests_support::engine_of(Arc::new(Doubler(info)))
}

fn tensor(dims: &[usize], values: &[f32]) -> Value {
    Value::Tensor(TensorValue::copy_of(DataType::Float32, dims.to_vec(), bytemuck::cast_slice(values)).unwrap())
}

fn refused(result: Result<()>, code: ErrorCode, words: &[&str]) {
    let e = result.expect_err("must be refused");
    assert_eq!(e.code(), code, "{e}");
    for w in words {
        assert!(e.message().contains(w), "'{w}' is not in: {e}");
    }
}

#[test]
fn values_and_buffers_run() {
    let mut c = Context::new(&engine()).unwrap();
    c.bind("x", tensor(&[2, 3], &[1., 2., 3., 4., 5., 6.])).unwrap();
    let y = Buffer::copy_of(bytemuck::cast_slice(&[9f32, 1.0, 2.0])).unwrap();
    c.bind_buffer("y", y, 4).unwrap();
    assert_eq!(c.output_shape("x2").unwrap(), [2, 3]);
    c.set_input_shape("y", &[2, 1]).unwrap();
    let out = Buffer::allocate(24, None).unwrap();
    c.bind_buffer("x2", out.clone(), 0).unwrap();
    c.run(&RunControl::default()).unwrap();
    let mut bytes = [0; 24];
    out.read_into(0, &mut bytes).unwrap();
    assert_eq!(bytemuck::pod_read_unaligned::<[f32; 6]>(&bytes), [2., 4., 6., 8., 10., 12.]);
    assert_eq!(c.output("y2").unwrap().as_tensor().unwrap().to_f64().unwrap(), [2.0, 4.0]);
}

#[test]
fn what_does_not_fit_is_refused_before_the_run() {
    let mut c = Context::new(&engine()).unwrap();
    let run = |c: &mut Context| c.run(&RunControl::default());
    refused(c.bind("z", tensor(&[1], &[0.0])), ErrorCode::NotFound, &["'z'", "'x'", "'y2'"]);
    refused(c.bind("x", tensor(&[3], &[0.0; 3])), ErrorCode::ShapeMismatch, &["'x'", "[N,3]", "[3]", "rank 1"]);
    refused(c.bind("x", tensor(&[2, 4], &[0.0; 8])), ErrorCode::ShapeMismatch, &["'x'", "[N,3]", "[2, 4]"]);
    let half = TensorValue::copy_of(DataType::Float16, vec![1, 3], &[0; 6]).unwrap();
    refused(
        c.bind("x", Value::Tensor(half)),
        ErrorCode::TypeMismatch,
        &["'x'", "fp32", "12 bytes", "fp16", "6 bytes", "keep_io"],
    );
    refused(c.bind("x", Value::Sequence(vec![])), ErrorCode::TypeMismatch, &["'x'", "a sequence"]);
    refused(run(&mut c), ErrorCode::InvalidState, &["'x'", "'y'"]);
    c.bind("x", tensor(&[1, 3], &[0.0; 3])).unwrap();
    c.bind_buffer("y", Buffer::allocate(8, None).unwrap(), 0).unwrap();
    refused(run(&mut c), ErrorCode::ShapeMismatch, &["'y'", "dynamic", "set_input_shape"]);
    c.set_input_shape("y", &[2, 1]).unwrap();
    refused(run(&mut c), ErrorCode::ShapeMismatch, &["'N'", "'x'", "'y'"]);
    c.set_input_shape("y", &[1, 3]).unwrap();
    refused(run(&mut c), ErrorCode::SizeMismatch, &["'y'", "12 bytes", "8 bytes"]);
    c.set_input_shape("y", &[1, 2]).unwrap();
    c.bind_buffer("x2", Buffer::allocate(11, None).unwrap(), 0).unwrap();
    refused(run(&mut c), ErrorCode::SizeMismatch, &["'x2'", "12 bytes", "11 bytes"]);
    let shared = Buffer::allocate(64, None).unwrap();
    c.bind_buffer("x2", shared.clone(), 0).unwrap();
    c.bind_buffer("y", shared, 32).unwrap();
    refused(run(&mut c), ErrorCode::InvalidArgument, &["'x2'", "'y'", "same buffer"]);
    refused(c.output("x2").map(drop), ErrorCode::InvalidState, &["'x2'", "run"]);
    refused(c.set_input_shape("x2", &[1, 3]), ErrorCode::InvalidArgument, &["'x2'", "output"]);
}

#[test]
fn an_engine_file_round_trips_and_damage_is_seen() {
    let path: PathBuf = std::env::temp_dir().join(format!("mezzo-container-{}.engine", std::process::id()));
    let engine = engine();
    engine.save(&path).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (info, sections) = container::read(&bytes.clone().into()).unwrap();
    assert_eq!(info.inputs, engine.info().inputs);
    assert_eq!(sections.get("a").unwrap()[5000..], [7; 10]);
    assert!(sections.get("b").unwrap().is_empty());
    assert!(sections.get("c").is_err());

    for len in 0..bytes.len() {
        assert!(container::read(&bytes::Bytes::copy_from_slice(&bytes[..len])).is_err(), "truncated to {len}");
    }
    // Every flipped bit is seen, but for padding between sections, which nothing reads.
    let mut unseen = 0;
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        if container::read(&damaged.into()).is_ok() {
            unseen += 1;
            assert_eq!(bytes[at], 0, "a flip at {at} is not seen");
        }
    }
    assert!(unseen < 3 * 4096);
}
