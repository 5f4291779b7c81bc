//! What is owed for a request that was taken from a ring, as its token says it. Only the queue that made the token reads it.

use palisade_block::Token;

/// What a used entry and a status byte are written from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owed {
    /// The head of the descriptor chain.
    pub head: u16,
    /// Bytes that a successful answer writes into the guest's data buffers.
    pub bytes_in: u32,
    /// Address in this process of the status byte.
    pub reply: usize,
}

impl Owed {
    /// The token of a request of this queue.
    #[inline(always)]
    pub fn of(token: &Token) -> Owed {
        let (head, bytes_in) = token.halves();
        Owed {
            head: head as u16,
            bytes_in,
            reply: token.note() as usize,
        }
    }

    /// As a token.
    #[inline(always)]
    pub fn token(self) -> Token {
        Token::of_halves((self.head.into(), self.bytes_in), self.reply as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_what_was_put_into_it() {
        for (head, bytes_in, reply) in [
            (0, 0, 0),
            (u16::MAX, 0, 1),
            (7, u32::MAX, usize::MAX),
            (1 << 15, 1 << 31, 1 << 63),
        ] {
            let owed = Owed {
                head,
                bytes_in,
                reply,
            };
            let token = owed.token();
            assert_eq!(Owed::of(&token), owed);
            token.spend();
        }
    }
}
