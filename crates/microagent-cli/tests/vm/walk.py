# Prints one line for every path below the directory given, in the order of their bytes: everything that an image layer can say about it.
import hashlib, json, os, stat, sys

TOP = os.fsencode(sys.argv[1])
# What the machine itself puts over the image, and what the kernel mounts.
SKIP = {b"/dev", b"/proc", b"/sys", b"/run", b"/etc/hostname", b"/etc/hosts", b"/etc/machine-id", b"/etc/resolv.conf"}


def describe(path, shown):
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    line = {
        "path": shown.decode("latin-1"),
        "mode": oct(info.st_mode),
        "owner": [info.st_uid, info.st_gid],
        "xattrs": {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(os.listxattr(path, follow_symlinks=False))},
    }
    if kind != stat.S_IFDIR:
        line["links"] = info.st_nlink
        line["mtime"] = info.st_mtime_ns
    if kind == stat.S_IFLNK:
        line["target"] = os.readlink(path).decode("latin-1")
    if kind in (stat.S_IFBLK, stat.S_IFCHR):
        line["device"] = [os.major(info.st_rdev), os.minor(info.st_rdev)]
    if kind == stat.S_IFREG:
        line["size"] = info.st_size
        with open(path, "rb") as file:
            line["content"] = hashlib.file_digest(file, "sha256").hexdigest()
    print(json.dumps(line, sort_keys=True))
    return kind == stat.S_IFDIR


def walk(path, shown):
    if shown in SKIP:
        return
    if describe(path or b"/", shown or b"/"):
        for name in sorted(os.listdir(path or b"/")):
            walk(path + b"/" + name, shown + b"/" + name)


walk(TOP.rstrip(b"/"), b"")
