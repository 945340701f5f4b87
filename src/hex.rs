//! Lower-case hexadecimal digits, written in place: what stands in ids and tags of every answer that is fetched, and
//! costs `format!` a thousand instructions there.

/// Writes `bytes` to the beginning of `text`, two digits each, as far as there is room.
pub fn write(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (two, byte) in text.chunks_exact_mut(2).zip(bytes) {
        two.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_is_two_digits_and_what_has_no_room_is_left_out() {
        let mut text = [b'-'; 5];
        write(&mut text, &[0x0f, 0xa0, 0x12]);
        assert_eq!(&text, b"0fa0-");
        write(&mut text, &[0xff]);
        assert_eq!(&text, b"ffa0-");
    }
}
