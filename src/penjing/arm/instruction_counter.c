/* Counts the instructions that QEMU's guest runs, into a file that others map.
 *
 * A plugin for QEMU's user mode, given `counter=PATH`: a file of 8 bytes. The few
 * declarations of QEMU's interface that it needs are here, as few systems have its
 * header; they are the same from version 1 of the interface on.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef INTERFACE
#define INTERFACE 1
#endif
#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(
    uint64_t id, void (*callback)(uint64_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*callback)(unsigned int cpu, void *data),
    int registers, void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);

EXPORT int qemu_plugin_version = INTERFACE;

static uint64_t *total;

static void ran(unsigned int cpu, void *data)
{
    (void)cpu;
    __atomic_fetch_add(total, (uint64_t)(uintptr_t)data, __ATOMIC_RELAXED);
}

static void translated(uint64_t id, struct qemu_plugin_tb *block)
{
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(
        block, ran, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int count, char **words)
{
    int file;

    (void)info;
    if (count != 1 || strncmp(words[0], "counter=", 8) != 0) {
        return -1;
    }
    file = open(words[0] + 8, O_RDWR);
    if (file < 0) {
        return -1;
    }
    total = mmap(NULL, sizeof *total, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (total == MAP_FAILED) {
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
