//! Text of a known greatest length as it grows on the stack: what a field of a response says, written in place.
//!
//! `format!` and a growing vector cost each such field some hundred instructions more. It knows nothing of HTTP but that
//! a field's value is made of it in the end.

use http::HeaderValue;

/// Up to `N` bytes. What has no room any more is left out as a whole.
pub struct Line<const N: usize> {
    text: [u8; N],
    length: usize,
}

impl<const N: usize> Line<N> {
    /// One that begins so.
    #[inline]
    #[must_use]
    pub fn beginning(text: &str) -> Self {
        let mut line = Self { text: [0; N], length: 0 };
        line.put(text);
        line
    }

    /// Puts text at its end.
    #[inline]
    pub fn put(&mut self, text: &str) -> &mut Self {
        let end = self.length + text.len();
        if let Some(place) = self.text.get_mut(self.length..end) {
            place.copy_from_slice(text.as_bytes());
            self.length = end;
        }
        self
    }

    /// Puts a number at its end, in decimal.
    #[inline]
    pub fn number(&mut self, number: impl itoa::Integer) -> &mut Self {
        self.put(itoa::Buffer::new().format(number))
    }

    /// The value; `None` where something in it may not stand in a field.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.text.get(..self.length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_numbers_stand_one_after_the_other_and_what_has_no_room_is_left_out() {
        let mut line = Line::<10>::beginning("a=");
        line.number(-12_i64).put("; b=").number(7_u64);
        assert_eq!(line.value().expect("a value"), "a=-12; b=7");
        let mut line = Line::<10>::beginning("a=");
        line.number(-12_i64).put("; bc=").put("1");
        assert_eq!(line.value().expect("a value"), "a=-12; bc=");
        assert!(Line::<4>::beginning("a\n").value().is_none());
    }
}
