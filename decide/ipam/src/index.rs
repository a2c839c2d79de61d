//! Finds the number of an item by its hash. Items come and never go; what they are is the caller's.

/// A place that no item has.
const FREE: u32 = u32::MAX;

/// Numbers by hash: open addressing in a table of a power of two, at most three quarters full.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    places: Vec<u32>,
    items: usize,
}

impl Index {
    /// Room for so many items.
    pub(crate) fn with_room(items: usize) -> Self {
        Self { places: vec![FREE; (items + items / 3 + 1).next_power_of_two().max(16)], items: 0 }
    }

    /// The number of the item with this hash for which `is` holds.
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.seek(hash, is).ok()
    }

    /// The same; if there is none, where [`Self::insert`] can put it as long as nothing else is put anywhere.
    pub(crate) fn seek(&self, hash: u64, is: impl Fn(u32) -> bool) -> Result<u32, Place> {
        let mask = self.places.len().wrapping_sub(1);
        let mut at = first(hash);
        // A quarter of the places is free.
        while let Some(number) = self.places.get(at & mask) {
            if *number == FREE {
                break;
            } else if is(*number) {
                return Ok(*number);
            }
            at = at.wrapping_add(1);
        }
        Err(Place { hash, at: at & mask })
    }

    /// Enters an item that isn't there; `hash_of` gives the hashes of all that are, for a larger table.
    pub(crate) fn insert(&mut self, mut place: Place, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.items + 1) * 4 > self.places.len() * 3 {
            let old = std::mem::replace(self, Self::with_room(2 * self.items + 8));
            for number in old.places.into_iter().filter(|number| *number != FREE) {
                self.put(self.seek(hash_of(number), |_| false).err(), number);
            }
            place = self.seek(place.hash, |_| false).err().unwrap_or(place);
        }
        self.put(Some(place), number);
    }

    fn put(&mut self, place: Option<Place>, number: u32) {
        if let Some(free) = place.and_then(|place| self.places.get_mut(place.at)) {
            *free = number;
            self.items += 1;
        }
    }
}

/// Where an item can be put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    hash: u64,
    at: usize,
}

fn first(hash: u64) -> usize {
    (hash >> 32) as usize
}

/// A hash of any bytes. Equal ones are as likely as any two numbers of 64 bits are, for names that nobody chose to
/// have them.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]);
    words.fold(fold(bytes.len() as u64), |hash, word| fold(hash ^ u64::from_le_bytes(*word)))
}

/// A hash of one number.
pub(crate) fn fold(number: u64) -> u64 {
    let product = u128::from(number ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}
