//! [unsafe room 1] `aya::Pod` for every type that lies in a map. Host side only.

use crate::backend::BackendEntry;
use crate::endpoint::{Address, EndpointV4, EndpointV6};
use crate::host::{Host, InterfaceEntry, VipEntry};
use crate::quic::{QuicConfig, QuicServerKey};
use crate::reply::{
    FragmentEntry, FragmentKey, ReplyEntry, SnatForwardEntry, SnatForwardKey, SnatReverseEntry, SnatReverseKey,
};
use crate::schedule::Schedule;
use crate::service::ServiceEntry;
use crate::stats::{OwnerCounters, VerdictCounters};
use crate::trace::Tap;

macro_rules! pod {
    ($($t:ty),* $(,)?) => {
        $(
            const _: fn() = || {
                const fn plain<T: zerocopy::IntoBytes + zerocopy::FromBytes + zerocopy::Immutable + Copy + 'static>() {}
                plain::<$t>();
            };
            // SAFETY: `Pod` wants a type that is `Copy`, `'static` and may be made from and read as any bytes of its size.
            // The function above compiles only if zerocopy has proved that the type has no padding (`IntoBytes`), that
            // every bit pattern is valid (`FromBytes`) and that it has no interior mutability (`Immutable`).
            unsafe impl aya::Pod for $t {}
        )*
    };
}

pod!(
    Address,
    BackendEntry,
    EndpointV4,
    EndpointV6,
    FragmentEntry,
    FragmentKey,
    Host,
    InterfaceEntry,
    OwnerCounters,
    QuicConfig,
    QuicServerKey,
    ReplyEntry,
    Schedule,
    ServiceEntry,
    SnatForwardEntry,
    SnatForwardKey,
    SnatReverseEntry,
    SnatReverseKey,
    Tap,
    VerdictCounters,
    VipEntry,
);
