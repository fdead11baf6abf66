//! Whose address a packet is to or from.

use crate::family::Family;
use crate::host::{HOST_PREFIX_VIPS, VIP_ASSIGNED, VIP_IS_BACKEND};
use crate::tables::Tables;

/// Whose address it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// A VIP that this host does not hold: all of it is ours.
    Vip,
    /// A VIP that this host holds itself.
    Assigned,
    /// A nat backend's.
    Backend,
    /// Nobody's that we know.
    Stranger,
}

#[inline(never)]
pub(super) fn whose<F: Family, T: Tables>(t: &T, addr: &F::Addr) -> Whose {
    let address = F::to_address(addr);
    match t.vip(&address) {
        None if is_in_prefix::<F, T>(t, addr) => {
            // This host may live in a prefix: its own address stays its own.
            if t.is_local(&address) { Whose::Assigned } else { Whose::Vip }
        }
        None => Whose::Stranger,
        Some(e) if e.flags & VIP_IS_BACKEND != 0 => Whose::Backend,
        Some(e) if e.flags & VIP_ASSIGNED != 0 => Whose::Assigned,
        Some(_) => Whose::Vip,
    }
}

#[inline(always)]
fn is_in_prefix<F: Family, T: Tables>(t: &T, addr: &F::Addr) -> bool {
    matches!(t.host(), Some(h) if h.flags & HOST_PREFIX_VIPS != 0) && F::is_in_prefix(t, addr)
}
