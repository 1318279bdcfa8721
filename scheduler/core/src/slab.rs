//! Values under small numbers that are used again after removal. Only storage.

#[derive(Debug)]
pub(crate) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { items: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(ix) = self.free.pop() {
            self.items[ix as usize] = Some(value);
            return ix;
        }
        self.items.push(Some(value));
        u32::try_from(self.items.len() - 1).unwrap_or(u32::MAX)
    }

    pub(crate) fn remove(&mut self, ix: u32) -> Option<T> {
        let value = self.items.get_mut(ix as usize)?.take();
        if value.is_some() {
            self.free.push(ix);
        }
        value
    }

    pub(crate) fn get(&self, ix: u32) -> Option<&T> {
        self.items.get(ix as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, ix: u32) -> Option<&mut T> {
        self.items.get_mut(ix as usize)?.as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    pub(crate) fn indices(&self) -> Vec<u32> {
        let present = self.items.iter().zip(0u32..).filter(|(item, _)| item.is_some());
        present.map(|(_, ix)| ix).collect()
    }
}
