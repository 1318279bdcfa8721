//! How messages get into and out of gRPC's buffers: prost, with small buffers to begin with.

use prost::Message;
use std::marker::PhantomData;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Bytes that a call's buffer has at first, in each direction; it grows as a message needs. A gateway holds thousands of
/// tunnels on which only heartbeats of a few dozen bytes travel, each with two buffers for as long as it lives; gRPC's
/// own default is eight times as much.
const FIRST: usize = 1024;

/// Bytes that are gathered before they are handed to the transport: gRPC's own default.
const GATHERED: usize = 32 * 1024;

/// The codec of every call of the contract.
#[derive(Clone, Debug)]
pub struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(FIRST, GATHERED))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(FIRST, GATHERED))
    }
}
