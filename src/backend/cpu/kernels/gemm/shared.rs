//! Outputs that tasks write in disjoint parts.
#![allow(unsafe_code)] // raw pointers into one output

use super::super::lane::Lane;
use crate::{Result, err};
use std::marker::PhantomData;

/// An output whose disjoint parts are written by tasks.
pub struct Shared<'a, O> {
    start: *mut O,
    len: usize,
    marker: PhantomData<&'a mut [O]>,
}

// SAFETY: tasks write disjoint parts, as the callers of its unsafe methods promise.
unsafe impl<O: Send> Sync for Shared<'_, O> {}

impl<'a, O: Lane> Shared<'a, O> {
    /// The output.
    pub fn new(out: &'a mut [O]) -> Self {
        Shared { start: out.as_mut_ptr(), len: out.len(), marker: PhantomData }
    }

    /// Where `n` elements from `at` on begin; the output has them.
    ///
    /// # Safety
    /// What is written there, no other task writes or reads.
    pub unsafe fn at(&self, at: usize, n: usize) -> *mut O {
        assert!(at.checked_add(n).is_some_and(|end| end <= self.len));
        // SAFETY: the place lies in the output.
        unsafe { self.start.add(at) }
    }

    /// `n` elements from `at` on.
    ///
    /// # Safety
    /// Nobody else, this task included, has a reference to these elements, writes or reads them while this one lives.
    #[allow(clippy::mut_from_ref)] // disjoint parts of one output, as the callers promise
    pub unsafe fn part(&self, at: usize, n: usize) -> &mut [O] {
        // SAFETY: the part lies in the output, and is the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.at(at, n), n) }
    }
}

/// An output of any type that computes in F: products are compiled for F alone.
pub struct Target<'a, F> {
    start: *mut u8,
    len: usize,
    store: unsafe fn(*mut u8, usize, &[F]),
    /// Its type is F itself.
    pub direct: bool,
    marker: PhantomData<&'a mut [F]>,
}

// SAFETY: tasks write disjoint rectangles (each rectangle of each product is one task's, and products write disjoint parts,
// which is the caller's duty and cannot break memory safety beyond a mixed-up result of plain numbers).
unsafe impl<F: Send> Sync for Target<'_, F> {}

impl<'a, F: Lane<C = F>> Target<'a, F> {
    /// The output.
    pub fn new<O: Lane<C = F>>(out: &'a mut [O]) -> Self {
        unsafe fn store<O: Lane>(start: *mut u8, at: usize, values: &[O::C]) {
            // SAFETY: the caller's promise.
            let to = unsafe { std::slice::from_raw_parts_mut(start.cast::<O>().add(at), values.len()) };
            O::narrow(values, to);
        }
        Target {
            start: out.as_mut_ptr().cast(),
            len: out.len(),
            store: store::<O>,
            direct: O::DTYPE == F::DTYPE,
            marker: PhantomData,
        }
    }

    /// An error unless a matrix that begins at `offset` lies in the output.
    pub fn check(&self, [rows, columns]: [usize; 2], offset: usize, row_stride: usize) -> Result<()> {
        let end = (rows - 1).checked_mul(row_stride).and_then(|r| r.checked_add(columns)?.checked_add(offset));
        match end {
            Some(end) if end <= self.len && row_stride >= columns => Ok(()),
            _ => Err(err!(Internal, "a product of {rows}x{columns} reaches beyond its output")),
        }
    }

    /// Where an element of a direct output is.
    ///
    /// # Safety
    /// The element lies in the output, which is direct.
    pub unsafe fn at(&self, at: usize) -> *mut F {
        debug_assert!(self.direct && at < self.len);
        // SAFETY: the caller's promise.
        unsafe { self.start.cast::<F>().add(at) }
    }

    /// Rounds values and stores them from element `at` on.
    ///
    /// # Safety
    /// They lie in the output, and no other task has them.
    pub unsafe fn store(&self, at: usize, values: &[F]) {
        debug_assert!(at + values.len() <= self.len);
        // SAFETY: the caller's promise; the function is that of the output's type.
        unsafe { (self.store)(self.start, at, values) }
    }
}
