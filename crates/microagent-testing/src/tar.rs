//! A small tar writer: honest entries with all the metadata an archive may carry, and room to lie.

/// An entry to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Item {
    /// Its name.
    pub path: Vec<u8>,
    /// Its type, as the header says it.
    pub type_flag: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds past them.
    pub mtime_nanos: u32,
    /// What a link points to.
    pub link: Vec<u8>,
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The bytes of a file.
    pub data: Vec<u8>,
}

impl Item {
    /// An entry of any type.
    pub fn new(type_flag: u8, path: impl AsRef<[u8]>) -> Self {
        Item { path: path.as_ref().to_vec(), type_flag, mode: 0o644, ..Item::default() }
    }

    /// A regular file.
    pub fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Item { data: data.as_ref().to_vec(), ..Item::new(b'0', path) }
    }

    /// A directory.
    pub fn directory(path: impl AsRef<[u8]>) -> Self {
        Item { mode: 0o755, ..Item::new(b'5', path) }
    }

    /// A symbolic link.
    pub fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Item { link: target.as_ref().to_vec(), mode: 0o777, ..Item::new(b'2', path) }
    }

    /// Another name of a file.
    pub fn hard_link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Item { link: target.as_ref().to_vec(), ..Item::new(b'1', path) }
    }

    /// A device.
    pub fn device(type_flag: u8, path: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Item { device: (major, minor), ..Item::new(type_flag, path) }
    }

    /// The same with other permissions.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The same with another owner.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// The same of another time.
    #[must_use]
    pub fn mtime(mut self, seconds: i64, nanoseconds: u32) -> Self {
        (self.mtime, self.mtime_nanos) = (seconds, nanoseconds);
        self
    }

    /// The same with one more extended attribute.
    #[must_use]
    pub fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.xattrs.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }
}

/// An archive in the making.
#[derive(Default)]
pub struct TarWriter(Vec<u8>);

impl TarWriter {
    /// A whole archive of these entries.
    pub fn of(items: &[Item]) -> Vec<u8> {
        let mut writer = TarWriter::default();
        for item in items {
            writer.item(item);
        }
        writer.finish()
    }

    /// Writes `item`, with an extended header for whatever the plain one cannot hold.
    pub fn item(&mut self, item: &Item) {
        let mut pax = Vec::new();
        if item.path.len() > 100 {
            pax.extend(pax_record(b"path", &item.path));
        }
        if item.link.len() > 100 {
            pax.extend(pax_record(b"linkpath", &item.link));
        }
        if item.uid > 0o7_777_777 || item.gid > 0o7_777_777 {
            pax.extend(pax_record(b"uid", item.uid.to_string().as_bytes()));
            pax.extend(pax_record(b"gid", item.gid.to_string().as_bytes()));
        }
        if item.mtime_nanos != 0 || !(0..1 << 33).contains(&item.mtime) {
            pax.extend(pax_record(b"mtime", pax_time(item.mtime, item.mtime_nanos).as_bytes()));
        }
        for (name, value) in &item.xattrs {
            pax.extend(pax_record(&[b"SCHILY.xattr.", &name[..]].concat(), value));
        }
        if !pax.is_empty() {
            self.pax(&pax);
        }
        self.header(item, item.data.len() as u64);
        self.data(&item.data);
    }

    /// Writes an extended header for the next entry.
    pub fn pax(&mut self, body: &[u8]) {
        self.header(&Item::new(b'x', "pax"), body.len() as u64);
        self.data(body);
    }

    /// Writes a header that states `size`, whatever follows.
    pub fn header(&mut self, item: &Item, size: u64) {
        self.header_with(item, size, |_| {});
    }

    /// Writes a header after `change` has had its way with it; the checksum is right again.
    pub fn header_with(&mut self, item: &Item, size: u64, change: impl FnOnce(&mut [u8; 512])) {
        let mut header = [0; 512];
        put(&mut header, 0, &item.path[..item.path.len().min(100)]);
        put(&mut header, 100, format!("{:07o}", item.mode).as_bytes());
        put(&mut header, 108, format!("{:07o}", item.uid & 0o7_777_777).as_bytes());
        put(&mut header, 116, format!("{:07o}", item.gid & 0o7_777_777).as_bytes());
        put(&mut header, 124, format!("{size:011o}").as_bytes());
        put(&mut header, 136, format!("{:011o}", item.mtime.clamp(0, (1 << 33) - 1)).as_bytes());
        header[156] = item.type_flag;
        put(&mut header, 157, &item.link[..item.link.len().min(100)]);
        put(&mut header, 257, b"ustar\x0000");
        put(&mut header, 329, format!("{:07o}", item.device.0).as_bytes());
        put(&mut header, 337, format!("{:07o}", item.device.1).as_bytes());
        change(&mut header);
        put(&mut header, 148, b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        put(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        self.0.extend(header);
    }

    /// Writes data, padded to whole blocks.
    pub fn data(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    /// The archive, with its end mark.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}

fn put(header: &mut [u8; 512], offset: usize, text: &[u8]) {
    header[offset..offset + text.len()].copy_from_slice(text);
}

/// One record of an extended header.
pub fn pax_record(keyword: &[u8], value: &[u8]) -> Vec<u8> {
    let body = keyword.len() + value.len() + 3;
    let mut length = body + 1;
    while body + length.to_string().len() != length {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", keyword, b"=", value, b"\n"].concat()
}

fn pax_time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    }
}
