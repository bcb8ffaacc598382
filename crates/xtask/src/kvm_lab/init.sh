#!/bin/busybox sh
# The first process of the lab's machine. It turns the emulated machine into one that looks like the host it was started
# on, but has KVM: the host's files at their own paths, read-only, with every change kept in memory.
# The command's output and exit status leave through three virtio ports.

/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec < /dev/null > /dev/console 2>&1
for module in /modules/*; do insmod "$module"; done

mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /host
mount -t tmpfs memory /memory
mkdir /memory/upper /memory/work /memory/root
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work lab /memory/root
for directory in proc sys dev; do mount --move /$directory /memory/root/$directory; done
cp /command /memory/root/.lab-command
cd /memory/root
mkdir -p dev/pts dev/shm
mount -t devpts pts dev/pts
mount -t tmpfs shm dev/shm
mount -t tmpfs run run
ip link set lo up

# The host announces the ports once it has seen the driver, and no program of busybox waits for a device.
until [ -c dev/vport0p3 ]; do usleep 1000; done
chroot . /bin/sh /.lab-command > dev/vport0p1 2> dev/vport0p2
echo $? > dev/vport0p3
reboot -f
