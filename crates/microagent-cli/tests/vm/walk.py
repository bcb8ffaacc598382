# Prints one line for every path below the directory given: the path, a tab, and everything that an image layer can say about it. It is run
# by the image's own Python, which has few modules.
import hashlib, os, stat, sys

TOP = os.fsencode(sys.argv[1]).rstrip(b"/")
# What the machine itself puts over the image, and what the kernel mounts.
SKIP = {b"/dev", b"/proc", b"/sys", b"/run", b"/etc/hostname", b"/etc/hosts", b"/etc/machine-id", b"/etc/resolv.conf"}


def describe(path, shown):
    info = os.lstat(path)
    kind = stat.S_IFMT(info.st_mode)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    facts = [oct(info.st_mode), info.st_uid, info.st_gid, [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]]
    if kind != stat.S_IFDIR:
        facts += ["links", info.st_nlink, "mtime", info.st_mtime_ns]
    if kind == stat.S_IFLNK:
        facts += ["target", os.readlink(path)]
    if kind in (stat.S_IFBLK, stat.S_IFCHR):
        facts += ["device", os.major(info.st_rdev), os.minor(info.st_rdev)]
    if kind == stat.S_IFREG:
        with open(path, "rb") as file:
            facts += ["size", info.st_size, "content", hashlib.sha256(file.read()).hexdigest()]
    print(repr(shown), repr(facts), sep="\t")
    return kind == stat.S_IFDIR


def walk(path, shown):
    if shown not in SKIP and describe(path or b"/", shown or b"/"):
        for name in os.listdir(path or b"/"):
            walk(path + b"/" + name, shown + b"/" + name)


walk(TOP, b"")
