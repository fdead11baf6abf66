//! [unsafe room] Asks the kernel's routing table.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup as FibLookup,
    bpf_fib_lookup__bindgen_ty_1 as FibLength, bpf_fib_lookup__bindgen_ty_2 as FibClass,
    bpf_fib_lookup__bindgen_ty_3 as FibSource, bpf_fib_lookup__bindgen_ty_4 as FibDestination,
    bpf_fib_lookup__bindgen_ty_5 as FibTable,
};
use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::bpf_fib_lookup;
use lb_common::tables::{Route, RouteQuery};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The way of a packet, as if it had come in by `route_from`. `ctx` is the running program's context.
#[inline(always)]
pub(crate) fn look_up(ctx: *mut c_void, route_from: u32, check_mtu: bool, query: &RouteQuery) -> Route {
    let (family, src, dst) = if query.is_v6 {
        (AF_INET6, words(&query.src.0), words(&query.dst.0))
    } else {
        (AF_INET, [word(query.src.as_v4()), 0, 0, 0], [word(query.dst.as_v4()), 0, 0, 0])
    };
    let mut params = FibLookup {
        family,
        l4_protocol: query.protocol,
        sport: 0,
        dport: 0,
        __bindgen_anon_1: FibLength { tot_len: if check_mtu { query.len } else { 0 } },
        ifindex: route_from,
        __bindgen_anon_2: FibClass { flowinfo: 0 },
        __bindgen_anon_3: FibSource { ipv6_src: src },
        __bindgen_anon_4: FibDestination { ipv6_dst: dst },
        __bindgen_anon_5: FibTable { tbid: 0 },
        smac: [0; 6],
        dmac: [0; 6],
    };
    // SAFETY: `ctx` is the running program's context; `params` has the size that is passed.
    let found = unsafe { bpf_fib_lookup(ctx, &raw mut params, FIB_LOOKUP_LEN, 0) };
    match u32::try_from(found) {
        Ok(BPF_FIB_LKUP_RET_SUCCESS) => {
            Route::Known { ifindex: params.ifindex, dst_mac: params.dmac, src_mac: params.smac }
        }
        Ok(BPF_FIB_LKUP_RET_NO_NEIGH) => Route::Unresolved { ifindex: params.ifindex },
        Ok(BPF_FIB_LKUP_RET_FRAG_NEEDED) => Route::TooBig,
        _ => Route::None,
    }
}

const FIB_LOOKUP_LEN: i32 = 64;
const _: () = assert!(size_of::<FibLookup>() == 64);

/// Four bytes in wire order as the kernel's word.
#[inline(always)]
const fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

/// An IPv6 address as the kernel's four words in wire order.
#[inline(always)]
const fn words(a: &[u8; 16]) -> [u32; 4] {
    [
        word([a[0], a[1], a[2], a[3]]),
        word([a[4], a[5], a[6], a[7]]),
        word([a[8], a[9], a[10], a[11]]),
        word([a[12], a[13], a[14], a[15]]),
    ]
}
