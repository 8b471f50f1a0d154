//! `mezzo devices`: the CUDA devices of this machine.

use crate::output::{bytes, print, print_json, table};
use mezzo::Result;
use mezzo::device::{self, Device};
use serde_json::json;

/// List the CUDA devices that engines of TensorRT's can run on
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the subcommand. No driver is an error that says what was tried.
pub fn run(args: &Args) -> Result<()> {
    let version = device::driver_version()?;
    let devices = (0..device::count()?).map(Device::get).collect::<Result<Vec<_>>>()?;
    let mut rows = Vec::new();
    let mut list = Vec::new();
    for d in devices {
        let (major, minor) = d.compute_capability();
        let free = d.free_memory()?;
        list.push(json!({
            "device": d.ordinal(),
            "name": d.name(),
            "memory_bytes": d.memory(),
            "free_bytes": free,
            "compute_capability": format!("{major}.{minor}"),
            "multiprocessors": d.multiprocessors(),
        }));
        rows.push(vec![
            d.ordinal().to_string(),
            d.name().to_string(),
            bytes(d.memory()),
            bytes(free),
            format!("{major}.{minor}"),
            d.multiprocessors().to_string(),
        ]);
    }
    if args.json {
        return print_json(
            &json!({ "driver": format!("{}.{}", version / 1000, version % 1000 / 10), "devices": list }),
        );
    }
    rows.insert(
        0,
        ["device", "name", "memory", "free", "compute capability", "multiprocessors"].map(String::from).to_vec(),
    );
    print(&format!("CUDA {}.{}\n{}", version / 1000, version % 1000 / 10, table(&rows, &[0, 2, 3, 4, 5])))
}
