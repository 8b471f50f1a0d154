//! The one kernel of Mezzo's own: float conversions on the device. It is PTX, which every driver compiles for the device
//! at hand, so no CUDA compiler is needed.

use super::device::Device;
use super::driver::{DevicePointer, Handle};
use super::stream::StreamHandle;
use crate::Result;
use crate::hash::HashMap;
use parking_lot::Mutex;
use std::ffi::CString;
use std::ptr;

const THREADS: u32 = 256;

/// Between which types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Conversion {
    /// FP32 to FP16, rounded to nearest even.
    FloatToHalf,
    /// FP16 to FP32, exact.
    HalfToFloat,
    /// FP32 to BF16, rounded to nearest even.
    FloatToBfloat,
    /// BF16 to FP32, exact.
    BfloatToFloat,
}

impl Conversion {
    fn name(self) -> &'static str {
        match self {
            Conversion::FloatToHalf => "float_to_half",
            Conversion::HalfToFloat => "half_to_float",
            Conversion::FloatToBfloat => "float_to_bfloat",
            Conversion::BfloatToFloat => "bfloat_to_float",
        }
    }

    /// Bytes of an element before and after.
    fn sizes(self) -> (u32, u32) {
        match self {
            Conversion::FloatToHalf | Conversion::FloatToBfloat => (4, 2),
            Conversion::HalfToFloat | Conversion::BfloatToFloat => (2, 4),
        }
    }

    /// From %r10 (the loaded bits) to %r11 (the bits to store).
    fn body(self) -> &'static str {
        match self {
            Conversion::FloatToHalf => "mov.b32 %f1, %r10; cvt.rn.f16.f32 %h1, %f1; cvt.u32.u16 %r11, %h1;",
            Conversion::HalfToFloat => "cvt.u16.u32 %h1, %r10; cvt.f32.f16 %f1, %h1; mov.b32 %r11, %f1;",
            // Adds half a unit of the last place that stays, and one more where that place is odd; a NaN keeps its top bits
            // and gets one that keeps it a NaN.
            Conversion::FloatToBfloat => {
                "shr.u32 %r12, %r10, 16; and.b32 %r13, %r12, 1; add.u32 %r13, %r13, 32767; add.u32 %r13, %r13, %r10; \
                 shr.u32 %r11, %r13, 16; and.b32 %r14, %r10, 2147483647; setp.gt.u32 %p2, %r14, 2139095040; \
                 or.b32 %r15, %r12, 64; selp.b32 %r11, %r15, %r11, %p2;"
            }
            Conversion::BfloatToFloat => "shl.b32 %r11, %r10, 16;",
        }
    }

    fn ptx(self) -> String {
        let (from, to) = self.sizes();
        let width = |size| if size == 2 { "u16" } else { "u32" };
        let load = match from {
            2 => "ld.global.u16 %h2, [%rd4]; cvt.u32.u16 %r10, %h2;",
            _ => "ld.global.u32 %r10, [%rd4];",
        };
        let store = match to {
            2 => "cvt.u16.u32 %h3, %r11;",
            _ => "",
        };
        let stored = if to == 2 { "%h3" } else { "%r11" };
        format!(
            ".version 6.0\n.target sm_53\n.address_size 64\n\
             .visible .entry {name}(.param .u64 to, .param .u64 from, .param .u64 count) {{\n\
             .reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<20>; .reg .f32 %f<4>; .reg .b64 %rd<12>;\n\
             ld.param.u64 %rd1, [to]; ld.param.u64 %rd2, [from]; ld.param.u64 %rd3, [count];\n\
             cvta.to.global.u64 %rd1, %rd1; cvta.to.global.u64 %rd2, %rd2;\n\
             mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;\n\
             mul.wide.u32 %rd5, %r1, %r2; cvt.u64.u32 %rd6, %r3; add.u64 %rd5, %rd5, %rd6;\n\
             mov.u32 %r4, %nctaid.x; mul.wide.u32 %rd7, %r4, %r2;\n\
             again: setp.ge.u64 %p1, %rd5, %rd3; @%p1 bra done;\n\
             mul.lo.u64 %rd8, %rd5, {from}; add.u64 %rd4, %rd2, %rd8;\n\
             {load}\n{body}\n{store}\n\
             mul.lo.u64 %rd9, %rd5, {to}; add.u64 %rd10, %rd1, %rd9;\n\
             st.global.{width} [%rd10], {stored};\n\
             add.u64 %rd5, %rd5, %rd7; bra again;\n\
             done: ret;\n}}\n",
            name = self.name(),
            body = self.body(),
            width = width(to),
        )
    }

    /// The compiled function on a device. Modules stay loaded until the process ends, as the context does.
    fn function(self, device: &'static Device) -> Result<Handle> {
        static FUNCTIONS: Mutex<Option<HashMap<(usize, Conversion), usize>>> = Mutex::new(None);
        let mut functions = FUNCTIONS.lock();
        let functions = functions.get_or_insert_with(HashMap::default);
        if let Some(function) = functions.get(&(device.ordinal(), self)) {
            return Ok(ptr::with_exposed_provenance_mut(*function));
        }
        let driver = device.driver;
        let what = format!("compile the conversion {} for {device:?}", self.name());
        let (ptx, name) = (CString::new(self.ptx()).unwrap_or_default(), CString::new(self.name()).unwrap_or_default());
        let (mut module, mut function) = (ptr::null_mut(), ptr::null_mut());
        let _entered = device.enter()?;
        // SAFETY: PTX text that ends with a zero byte; each call writes one handle.
        unsafe {
            driver.check((driver.module_load)(&mut module, ptx.as_ptr().cast()), &what)?;
            driver.check((driver.module_function)(&mut function, module, name.as_ptr()), &what)?;
        }
        functions.insert((device.ordinal(), self), function.expose_provenance());
        Ok(function)
    }

    /// Converts `count` elements in the stream's order.
    ///
    /// # Safety
    /// Both places have that many elements in the memory of the stream's device, do not overlap, and stay valid, and nobody
    /// else writes them, until the work is done.
    pub unsafe fn enqueue(
        self,
        stream: &StreamHandle,
        to: DevicePointer,
        from: DevicePointer,
        count: usize,
    ) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let function = self.function(stream.device())?;
        let blocks =
            (count as u64).div_ceil(THREADS.into()).min(u64::from(stream.device().multiprocessors().max(1)) * 16);
        let (mut to, mut from, mut count) = (to, from, count as u64);
        let mut parameters = [(&raw mut to).cast(), (&raw mut from).cast(), (&raw mut count).cast()];
        // SAFETY: the kernel takes two addresses and a count, and reads and writes below the count only.
        unsafe { stream.launch(function, blocks as u32, THREADS, &mut parameters) }
    }
}
