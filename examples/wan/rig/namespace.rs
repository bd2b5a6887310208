//! Network namespaces, and TUN devices inside them.

use std::{
    fs::File,
    io,
    num::NonZeroU64,
    os::fd::AsFd,
    process::{Command, Output},
    thread,
};

use rustix::{
    fs::{Mode, OFlags},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// Name of the TUN device in either namespace.
pub(crate) const DEVICE: &str = "wan0";

/// Packets that a TUN device holds until the emulator reads them. The default of 500 would drop packets that the queue
/// of the emulated path accepts, when the emulator's thread waits for the processor for some milliseconds.
const DEVICE_QUEUE: &str = "10000";

/// A named network namespace. Dropping it removes the name; processes that still run inside keep the namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Name, as `ip netns` shows it.
    pub(crate) name: String,
}

impl Namespace {
    /// Creates a namespace and brings its loopback device up. Replaces one of the same name that an earlier run left.
    pub(crate) fn create(name: &str) -> io::Result<Self> {
        // It fails if there is none, which is the normal case.
        _ = ip(&["netns", "del", name]);
        ip(&["netns", "add", name])?;
        let namespace = Self { name: name.into() };
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs `ip` with these arguments inside.
    pub(crate) fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        ip(&[&["-n", self.name.as_str()], arguments].concat())
    }

    /// Runs `action` on a thread that is inside. Sockets, devices and processes that it opens stay inside.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let enter = || -> io::Result<()> {
            let namespace = File::open(format!("/run/netns/{}", self.name))?;
            Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
        };
        // The namespace of a thread ends with the thread, so that no other code of this process can run inside by
        // mistake.
        thread::scope(|scope| scope.spawn(|| enter().and_then(|()| action())).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Opens the TUN device [`DEVICE`] inside and brings it up with these addresses. Closing the file removes the
    /// device.
    pub(crate) fn open_tun(&self, mtu: u16, addresses: &[&str]) -> io::Result<File> {
        let tun = self.run(open_tun)?;
        self.ip(&["link", "set", DEVICE, "mtu", &mtu.to_string(), "txqueuelen", DEVICE_QUEUE, "up"])?;
        for address in addresses {
            self.ip(&["address", "add", address, "dev", DEVICE, "nodad"])?;
        }
        Ok(tun)
    }

    /// Sets a kernel parameter of the namespace, `net/ipv4/tcp_congestion_control` for example.
    pub(crate) fn set(&self, parameter: &str, value: &str) -> io::Result<()> {
        self.run(|| std::fs::write(format!("/proc/sys/{parameter}"), value))
            .map_err(|error| io::Error::new(error.kind(), format!("{parameter} = {value}: {error}")))
    }
}

impl Namespace {
    /// Sets the default congestion control of the namespace.
    ///
    /// Namespaces other than the first may only use algorithms that the machine allows to unprivileged processes, and
    /// those are initially the machine's default and Reno. If the kernel refuses `name`, it is added to that list,
    /// where it remains.
    pub(crate) fn set_congestion_control(&self, name: &str) -> io::Result<()> {
        const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
        let set = || self.set("net/ipv4/tcp_congestion_control", name);
        match set() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let allowed = std::fs::read_to_string(ALLOWED)?;
                std::fs::write(ALLOWED, format!("{} {name}", allowed.trim()))?;
                set()
            }
            result => result,
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // There is no caller to tell; the next run of the same name removes what is left.
        _ = ip(&["netns", "del", &self.name]);
    }
}

/// Runs `ip`. The error contains what it printed.
fn ip(arguments: &[&str]) -> io::Result<()> {
    let Output { status, stderr, .. } = Command::new("ip")
        .args(arguments)
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot run ip (of iproute2): {error}")))?;
    if status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), message.trim())))
}

/// Creates a TUN device in the namespace of this thread. It carries plain IP packets: without `IFF_VNET_HDR` the kernel
/// segments large sends before the device, and no packet exceeds the MTU.
#[allow(unsafe_code)]
fn open_tun() -> io::Result<File> {
    // From linux/if_tun.h.
    const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;
    const IFF_TUN: u16 = 0x0001;
    const IFF_NO_PI: u16 = 0x1000;
    /// `struct ifreq` of linux/if.h: name, and a union of 24 bytes that begins with the flags.
    #[repr(C)]
    struct InterfaceRequest {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = InterfaceRequest { name: [0; 16], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
    request.name[..DEVICE.len()].copy_from_slice(DEVICE.as_bytes());
    let tun =
        rustix::fs::open("/dev/net/tun", OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which has the size and layout of `InterfaceRequest` on
    // 64-bit systems and a shorter union on others.
    unsafe {
        rustix::ioctl::ioctl(&tun, rustix::ioctl::Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request))
    }?;
    Ok(tun.into())
}

/// Gives this thread the highest priority of the normal scheduler, and timers without slack, as far as permitted.
pub(crate) fn prioritize_thread() {
    // Without the privilege the emulation is less exact on a busy machine. On Linux the nice value belongs to the
    // thread.
    _ = rustix::process::nice(-20);
    _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
}
