//! Lower-case hexadecimal digits, written in place: what stands in ids and tags of every answer that is fetched, and
//! costs `format!` a thousand instructions there.

/// Writes `bytes` to the beginning of `text`, two digits each, as far as there is room.
pub fn write(text: &mut [u8], bytes: &[u8]) {
    for (two, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *two = PAIRS[usize::from(*byte)];
    }
}

/// The two digits of each byte.
static PAIRS: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 0xf]];
        byte += 1;
    }
    pairs
};

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
