//! Puts a body together as it arrives: decodes what the vendor compressed, and never holds more than it may.
//!
//! One gzip member and no more: what a vendor sends has one, and a body of empty ones costs work without end.
//!
//! Pure but for memory. A small answer can decode to a thousand times its size, so the limit is checked at each write
//! of the decoder and not when all of it is there.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzDecoder;

use super::error::UpstreamError;

/// A body under way.
pub(super) struct Body {
    limit: usize,
    /// Bytes that came, before decoding.
    received: usize,
    form: Form,
}

enum Form {
    Plain(Bounded),
    Gzip(Box<GzDecoder<Bounded>>),
}

impl Body {
    /// A body of at most `limit` bytes, as it comes and decoded; `encoding` is the value of `content-encoding`.
    /// Only what was asked for is understood: `gzip`, or none.
    pub(super) fn new(encoding: Option<&[u8]>, limit: usize) -> Result<Self, UpstreamError> {
        let bounded = Bounded { bytes: Vec::new(), limit, exceeded: false };
        let form = match encoding.map(<[u8]>::trim_ascii) {
            None | Some(b"") => Form::Plain(bounded),
            Some(e) if e.eq_ignore_ascii_case(b"identity") => Form::Plain(bounded),
            Some(e) if e.eq_ignore_ascii_case(b"gzip") || e.eq_ignore_ascii_case(b"x-gzip") => {
                Form::Gzip(Box::new(GzDecoder::new(bounded)))
            }
            Some(_) => {
                return Err(UpstreamError::Invalid("a content-encoding that was not asked for".into()));
            }
        };
        Ok(Self { limit, received: 0, form })
    }

    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), UpstreamError> {
        self.received = self.received.saturating_add(bytes.len());
        if self.received > self.limit {
            return Err(UpstreamError::TooLarge);
        }
        let exceeded = |bounded: &Bounded, e: &io::Error| {
            if bounded.exceeded {
                UpstreamError::TooLarge
            } else {
                UpstreamError::Invalid(e.to_string().into())
            }
        };
        match &mut self.form {
            Form::Plain(to) => to.write_all(bytes).map_err(|e| exceeded(to, &e)),
            Form::Gzip(to) => to.write_all(bytes).map_err(|e| exceeded(to.get_ref(), &e)),
        }
    }

    /// The whole body, in an allocation of its own size.
    pub(super) fn finish(self) -> Result<Bytes, UpstreamError> {
        let bounded = match self.form {
            Form::Plain(bounded) => bounded,
            // An empty body is no gzip stream, but it is how some servers encode nothing.
            Form::Gzip(_) if self.received == 0 => return Ok(Bytes::new()),
            Form::Gzip(mut decoder) => {
                if let Err(error) = decoder.try_finish() {
                    // What was corrupt has failed in `push`; here the trailer is missing, or contradicts the bytes.
                    return Err(match decoder.get_ref().exceeded {
                        true => UpstreamError::TooLarge,
                        false => UpstreamError::Incomplete(error.to_string()),
                    });
                }
                std::mem::take(decoder.get_mut())
            }
        };
        Ok(Bytes::from(bounded.bytes.into_boxed_slice()))
    }
}

/// A vector that refuses to grow beyond its limit.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    exceeded: bool,
}

impl Write for Bounded {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + from.len() > self.limit {
            self.exceeded = true;
            return Err(io::Error::other("limit exceeded"));
        }
        self.bytes.extend_from_slice(from);
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(plain).expect("memory");
        encoder.finish().expect("memory")
    }

    fn decode(encoding: Option<&str>, limit: usize, pieces: &[&[u8]]) -> Result<Bytes, UpstreamError> {
        let mut body = Body::new(encoding.map(str::as_bytes), limit)?;
        for piece in pieces {
            body.push(piece)?;
        }
        body.finish()
    }

    #[test]
    fn plain_and_gzip_come_out_whole_and_anything_else_is_refused() {
        assert_eq!(decode(None, 10, &[b"ab", b"cd"]).expect("plain"), "abcd");
        assert_eq!(decode(Some("Identity"), 10, &[b"ab"]).expect("plain"), "ab");
        assert_eq!(decode(Some(" GZIP "), 100, &[&gzip(b"abcd")]).expect("gzip"), "abcd");
        assert_eq!(decode(Some("gzip"), 100, &[]).expect("nothing"), "");
        for encoding in ["br", "deflate", "gzip, gzip", "zstd", "nonsense"] {
            assert!(matches!(decode(Some(encoding), 10, &[]), Err(UpstreamError::Invalid(_))), "{encoding}");
        }
        assert!(matches!(decode(Some("gzip"), 100, &[b"no gzip at all"]), Err(UpstreamError::Invalid(_))));
        let whole = gzip(b"abcdefgh");
        for cut in 1..whole.len() {
            let error = decode(Some("gzip"), 100, &[&whole[..cut]]).expect_err("cut short");
            assert!(matches!(error, UpstreamError::Incomplete(_)), "{cut}: {error}");
        }
    }

    #[test]
    fn a_bomb_is_stopped_while_it_decodes() {
        let bomb = gzip(&vec![0; 8 << 20]);
        assert!(bomb.len() < 10_000);
        assert_eq!(decode(Some("gzip"), 64 << 10, &[&bomb]), Err(UpstreamError::TooLarge));
        let mut body = Body::new(Some(b"gzip"), 64 << 10).expect("gzip");
        let _ = bomb.chunks(100).try_for_each(|piece| body.push(piece));
        let Form::Gzip(decoder) = &body.form else { panic!("gzip") };
        assert!(decoder.get_ref().bytes.capacity() <= 128 << 10);
    }

    #[test]
    fn nothing_is_decoded_behind_the_first_member() {
        let (empty, full) = (gzip(b""), gzip(b"abcd"));
        let mut body = Body::new(Some(b"gzip"), 16 << 20).expect("gzip");
        body.push(&empty).expect("a member");
        assert!(
            matches!(body.push(&empty), Err(UpstreamError::Invalid(_))),
            "at once, and not after the last"
        );
        for pieces in [[empty, full.clone()], [full.clone(), full]] {
            let together = decode(Some("gzip"), 100, &[&pieces.concat()]);
            assert!(matches!(together, Err(UpstreamError::Invalid(_))), "{together:?}");
        }
    }

    #[test]
    fn the_limit_is_inclusive() {
        assert_eq!(decode(None, 4, &[b"abcd"]).expect("fits"), "abcd");
        assert_eq!(decode(None, 4, &[b"abcd", b"e"]), Err(UpstreamError::TooLarge));
    }

    proptest! {
        #[test]
        fn however_it_is_cut_the_body_is_the_same(
            plain in proptest::collection::vec(any::<u8>(), 0..2_000),
            size in 1usize..300,
        ) {
            let encoded = gzip(&plain);
            let pieces: Vec<_> = encoded.chunks(size).collect();
            prop_assert_eq!(decode(Some("gzip"), 5_000, &pieces).expect("decodes"), plain);
        }
    }
}
