//! The embedded CPU backend (in work).
use super::*;
/// The CPU backend.
pub struct CpuBackend;
impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").into()
    }
    fn build(&self, _: &Model, _: &BuildOptions, _: &Progress) -> Result<Arc<dyn LoadedEngine>> {
        todo!()
    }
    fn load(&self, _: &SectionReader, _: &LoadOptions) -> Result<Arc<dyn LoadedEngine>> {
        todo!()
    }
}
