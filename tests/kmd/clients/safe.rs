// SPDX-License-Identifier: MIT
//! Rust's standard library with the C library's ioctl and mmap.
use std::ffi::c_void;
use std::fs::{self, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

extern "C" {
    fn ioctl(fd: i32, request: u64, ...) -> i32;
    fn mmap(address: *mut c_void, bytes: usize, protection: i32, flags: i32, fd: i32, offset: i64) -> *mut c_void;
}

#[repr(C)]
struct CreateBo {
    size: u32,
    handle: u32,
    dma_address: u64,
    offset: u64,
}

fn main() {
    let names: Vec<_> = fs::read_dir("/dev/accel").unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(names.len(), 1);
    assert!(names[0].file_type().unwrap().is_char_device());
    let file = OpenOptions::new().read(true).write(true).open(names[0].path()).unwrap();
    assert_eq!(file.metadata().unwrap().rdev(), 261 << 8);
    assert_eq!(fs::read_to_string("/sys/dev/char/261:0/dev").unwrap(), "261:0\n");
    assert_eq!(fs::canonicalize("/sys/class/accel/accel0").unwrap().to_str().unwrap(),
               "/sys/devices/platform/rknn/accel/accel0");
    let copy = file.try_clone().unwrap();
    let mut bo = CreateBo { size: 4096, handle: 0, dma_address: 9, offset: 0 };
    unsafe {
        assert_eq!(ioctl(copy.as_raw_fd(), 0xC0186440, &mut bo), 0);
        let memory = mmap(std::ptr::null_mut(), 4096, 3, 1, file.as_raw_fd(), bo.offset as i64) as *mut u8;
        assert_ne!(memory as isize, -1);
        *memory = 5;
        assert_eq!(*memory, 5);
    }
    println!("handle {} at {}", bo.handle, bo.dma_address);
}
