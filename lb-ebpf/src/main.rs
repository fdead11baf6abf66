//! x
#![no_std]
#![no_main]
use aya_ebpf::{macros::{xdp,btf_map},programs::XdpContext,btf_maps::{Array,ArrayOfMaps}};
#[btf_map]
static A: ArrayOfMaps<Array<[u32;65538],1,1024>,512> = ArrayOfMaps::new();
#[xdp]
pub fn ingress(_ctx: XdpContext) -> u32 { match A.get_value(3,&0) { Some(v)=>v[5], None=>2 } }
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! { loop {} }
