//! The pool of KV cache blocks: which are free, which are shared, which sequence holds which. Pure bookkeeping.

/// Tokens in a block.
pub const BLOCK_TOKENS: usize = 16;

/// Index of a block in the cache.
pub type BlockId = u32;

/// Blocks needed for a number of tokens.
pub fn blocks_for(tokens: usize) -> usize {
    tokens.div_ceil(BLOCK_TOKENS)
}

/// Counts references to blocks and hands out free ones.
#[derive(Debug)]
pub struct BlockPool {
    references: Vec<u32>,
    free: Vec<BlockId>,
}

impl BlockPool {
    /// A pool of free blocks.
    pub fn new(blocks: usize) -> Self {
        let count = u32::try_from(blocks).unwrap_or(u32::MAX);
        Self {
            references: vec![0; count as usize],
            free: (0..count).rev().collect(),
        }
    }

    /// All blocks.
    pub fn total(&self) -> usize {
        self.references.len()
    }

    /// Blocks that nobody holds.
    pub fn free(&self) -> usize {
        self.free.len()
    }

    /// Blocks that somebody holds.
    pub fn used(&self) -> usize {
        self.total() - self.free()
    }

    /// Takes a free block, with one reference.
    pub fn allocate(&mut self) -> Option<BlockId> {
        let block = self.free.pop()?;
        debug_assert_eq!(self.references[block as usize], 0);
        self.references[block as usize] = 1;
        Some(block)
    }

    /// One more holder of a block that is in use.
    pub fn retain(&mut self, block: BlockId) {
        assert!(
            self.references[block as usize] > 0,
            "block {block} is free and cannot be shared"
        );
        self.references[block as usize] += 1;
    }

    /// One holder less; the last one frees the block.
    pub fn release(&mut self, block: BlockId) {
        let count = &mut self.references[block as usize];
        assert!(*count > 0, "block {block} was released twice");
        *count -= 1;
        if *count == 0 {
            self.free.push(block);
        }
    }
}

/// The blocks of one sequence, in order.
#[derive(Debug, Default)]
pub struct BlockTable {
    blocks: Vec<BlockId>,
}

impl BlockTable {
    /// The blocks.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }

    /// Makes room for `tokens` tokens in all. On failure nothing was taken.
    pub fn grow(&mut self, tokens: usize, pool: &mut BlockPool) -> bool {
        let missing = blocks_for(tokens).saturating_sub(self.blocks.len());
        if missing > pool.free() {
            return false;
        }
        for _ in 0..missing {
            self.blocks.extend(pool.allocate());
        }
        true
    }

    /// Gives every block back.
    pub fn clear(&mut self, pool: &mut BlockPool) {
        // The tail first, so that it is reused first and a shared beginning stays longest.
        for block in self.blocks.drain(..).rev() {
            pool.release(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn no_block_is_lost_or_given_twice(operations in prop::collection::vec((0usize..8, 0usize..200), 1..200)) {
            let mut pool = BlockPool::new(40);
            let mut tables: Vec<BlockTable> = (0..8).map(|_| BlockTable::default()).collect();
            for (index, tokens) in operations {
                if tokens < 40 {
                    tables[index].clear(&mut pool);
                } else {
                    let before = tables[index].blocks().len();
                    let fits = blocks_for(tokens).saturating_sub(before) <= pool.free();
                    prop_assert_eq!(tables[index].grow(tokens, &mut pool), fits);
                    prop_assert!(fits || tables[index].blocks().len() == before);
                }
                let held: Vec<BlockId> = tables.iter().flat_map(|t| t.blocks().iter().copied()).collect();
                let distinct: HashSet<BlockId> = held.iter().copied().collect();
                prop_assert_eq!(held.len(), distinct.len());
                prop_assert_eq!(held.len(), pool.used());
            }
            for table in &mut tables {
                table.clear(&mut pool);
            }
            prop_assert_eq!(pool.free(), 40);
        }
    }

    #[test]
    fn a_shared_block_is_free_when_its_last_holder_lets_go() {
        let mut pool = BlockPool::new(1);
        let block = pool.allocate().expect("a free block");
        pool.retain(block);
        pool.release(block);
        assert_eq!(pool.free(), 0);
        pool.release(block);
        assert_eq!(pool.free(), 1);
    }

    #[test]
    #[should_panic(expected = "released twice")]
    fn a_double_release_is_a_bug_that_stops() {
        let mut pool = BlockPool::new(1);
        let block = pool.allocate().expect("a free block");
        pool.release(block);
        pool.release(block);
    }
}
