//! A slice that the chunks of a parallel region write in disjoint parts.
#![allow(unsafe_code)]

use std::marker::PhantomData;

pub(super) struct Disjoint<'a, T> {
    data: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` that several threads use; `slice` makes its callers promise disjoint parts.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}
// SAFETY: as for `&mut [T]`.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(super) fn new(slice: &'a mut [T]) -> Self {
        Self {
            data: slice.as_mut_ptr(),
            length: slice.len(),
            borrow: PhantomData,
        }
    }

    /// The same slice again, for as long as this is borrowed.
    pub(super) fn reborrow(&self) -> Disjoint<'_, T> {
        Disjoint {
            data: self.data,
            length: self.length,
            borrow: PhantomData,
        }
    }

    /// A part of the slice.
    ///
    /// # Safety
    /// While the returned slice is alive, no other part that overlaps it may be taken.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub(super) unsafe fn slice(&self, start: usize, length: usize) -> &mut [T] {
        assert!(start <= self.length && length <= self.length - start);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise, alive by the borrow.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), length) }
    }
}
