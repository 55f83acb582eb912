/* The block counter of the virtual board: called by Unicorn at every basic block, it adds the block's cycles and stops
   at deadlines. counter.py compiles it at first use and has an equal twin in Python. Nothing of Unicorn's headers is
   needed. */
#include <stdint.h>
#include <stddef.h>
#include <string.h>

enum { STOP_NONE, STOP_DEADLINE, STOP_MISS, STOP_MASK, STOP_SUSPECT, STOP_PRECONDITION, STOP_CHANGED };
enum { ALWAYS_ALIGNED, TRAPPED_ALIGNED, TRAPPED_DIVISION, FLOATING_POINT };
enum { ATTENTION_FLOATS = 1 };
enum { REG_BASEPRI = 0, REG_FAULTMASK = 1, REG_PRIMASK = 2 };

enum { FLASH_CODE, ALIAS_CODE, SYSTEM_CODE };

typedef struct {
    uint32_t address, size;
    uint32_t ideal, expected, uncached;                   /* cycles when the block falls through */
    uint32_t taken_ideal, taken_expected, taken_uncached; /* added when its conditional branch is taken */
    uint32_t conditional, jumps, instructions;
    uint32_t code, bus, words, flash_words, shared_words; /* the last two: known without a look at registers */
    uint32_t first_line, last_line, end_line, wide_entry;
    uint32_t first_precondition, preconditions; /* what to look at before the block runs */
    uint32_t first_group, early_groups, late_groups;
    uint32_t attention;   /* it does not simply run while the state's attention shares a bit */
    const uint8_t *bytes; /* of code in RAM, as they were learned; else null */
    uint64_t executed, taken;
} block_record;

/* accesses.py: `words` transfers near the sum of factor times register, and offset; through: near the word that stands
 * there, with a register and an offset of its own added. */
typedef struct {
    uint32_t offset, words;
    int32_t registers[3];
    uint32_t factors[3];
    uint32_t through, beyond_offset, beyond_factor;
    int32_t beyond_register;
} access_group;

struct counter_state;

/* preconditions.py says what it means: the sum of factor times register, and offset, must have no bit of mask; a
 * division: must not be 0. */
typedef struct {
    struct counter_state *state;
    uint32_t kind, offset, mask, unused;
    int32_t registers[3];
    uint32_t factors[3];
} precondition;

typedef struct counter_state {
    uint64_t active;   /* cycles the core was awake, on the clock in force */
    uint64_t deadline; /* stop before the first block that starts at or after this */
    uint64_t ideal, instructions;
    uint64_t hits, misses, flash_words, bus_cycles;
    uint64_t charged;   /* what the block in execution has added to active so far */
    uint64_t last;      /* index + 1 of the block in execution, 0 none */
    uint64_t access_pc; /* the memory instruction marked last; 0 none since the block began */
    uint32_t cache_on, ideal_clock, poll_masks, stop_reason, miss_address, miss_size, masks[3];
    int32_t mask_registers[3];
    uint32_t table_bits;
    uint32_t jumped, line; /* the block in execution was branched to; the line of flash fetched last */
    uint32_t flash_read, miss, line_wait, sets, ways;
    uint64_t engine;
    int (*emu_stop)(void *);
    int (*reg_read)(void *, int, void *);
    block_record *blocks;
    uint32_t *table;           /* open addressing on the block's address: index + 1 */
    const uint8_t *ram;        /* 256 KB */
    uint32_t *cache;           /* [sets][ways], a line + 1, the one used last first */
    uint32_t traps;            /* CCR: which of the preconditions with a trap bit count */
    uint32_t attention;        /* what is watched for now; counter.py has the bits */
    uint32_t stepping, unused; /* one instruction is run by itself, its preconditions have been looked at */
    precondition *preconditions;
    access_group *groups;
    void (*on_float)(uint64_t address);
} counter_state;

static uint32_t slot_of(const counter_state *s, uint32_t address, uint32_t size) {
    uint32_t mask = (1u << s->table_bits) - 1u;
    uint32_t slot = ((address >> 1) * 2654435761u >> 4) & mask;
    while (s->table[slot]) {
        const block_record *b = &s->blocks[s->table[slot] - 1];
        if (b->address == address && b->size == size) break;
        slot = (slot + 1) & mask;
    }
    return slot;
}

void counter_insert(counter_state *s, uint32_t index) {
    s->table[slot_of(s, s->blocks[index].address, s->blocks[index].size)] = index + 1;
}

static uint32_t read_register(const counter_state *s, int32_t number) {
    uint32_t value = 0;
    s->reg_read((void *)(uintptr_t)s->engine, number, &value);
    return value;
}

/* Which of RAM's slaves answers an address that is not flash; timing.py has the numbers. */
static uint32_t slave_of(uint32_t address) {
    uint32_t offset = address & 0x3FFFFu;
    return offset < 0x10000u ? offset >> 13 : 8;
}

static uint32_t address_of(const counter_state *s, const access_group *g) {
    uint32_t address = g->offset;
    for (int k = 0; k < 3 && g->factors[k]; k++) address += g->factors[k] * read_register(s, g->registers[k]);
    if (!g->through) return address;
    if (address - 0x20000000u > 0x3FFFCu) return 0x20000000u; /* not from RAM: nothing is known */
    const uint8_t *p = s->ram + (address - 0x20000000u);
    uint32_t word = p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    word += g->beyond_offset;
    return g->beyond_factor ? word + g->beyond_factor * read_register(s, g->beyond_register) : word;
}

/* Cycles that the loads and stores of some groups add: waits for flash, and fetches that come later. */
static uint32_t wait_for(counter_state *s, const block_record *b, uint32_t first, uint32_t count, uint32_t flash,
                         uint32_t shared) {
    for (uint32_t i = first; i < first + count; i++) {
        const access_group *g = &s->groups[i];
        uint32_t address = address_of(s, g);
        if (address < 0x00800000u)
            flash += g->words;
        else if (b->code == SYSTEM_CODE || (b->code == ALIAS_CODE && slave_of(address) == slave_of(b->address)))
            shared += g->words;
    }
    uint32_t bus = shared ? b->bus * shared / b->words : 0;
    s->flash_words += flash;
    s->bus_cycles += bus;
    return flash * s->flash_read + bus;
}

/* Cycles that the block's lines of flash add, and a change of the lines that are at hand. */
static uint32_t fetch_lines(counter_state *s, const block_record *b) {
    if (!s->cache_on) {
        uint32_t wait = b->first_line != s->line ? s->line_wait : 0;
        s->line = b->end_line;
        return wait;
    }
    uint32_t missed = 0;
    for (uint32_t line = b->first_line; line <= b->last_line; line++) {
        uint32_t *way = &s->cache[line % s->sets * s->ways], at = 0;
        while (at < s->ways - 1 && way[at] != line + 1) at++;
        if (way[at] != line + 1) missed++;
        for (; at; at--) way[at] = way[at - 1];
        way[0] = line + 1;
    }
    s->misses += missed;
    s->hits += b->last_line - b->first_line + 1 - missed;
    return missed * s->miss;
}

static void charge(counter_state *s, uint32_t ideal, uint32_t expected) {
    uint32_t cycles = s->ideal_clock ? ideal : expected;
    s->ideal += ideal;
    s->active += cycles;
    s->charged += cycles;
}

/* Charges what the block left last adds, now that where it went is known. */
void counter_settle(counter_state *s, uint32_t address) {
    if (s->last) {
        block_record *b = &s->blocks[s->last - 1];
        if (b->late_groups) charge(s, 0, wait_for(s, b, b->first_group + b->early_groups, b->late_groups, 0, 0));
        s->jumped = b->jumps;
        if (b->conditional && address != b->address + b->size) {
            b->taken++;
            s->jumped = 1;
            charge(s, b->taken_ideal, s->cache_on ? b->taken_expected : b->taken_uncached);
        }
        s->last = 0;
    }
    s->access_pc = 0;
}

static void stop(counter_state *s, uint32_t reason) {
    s->stop_reason = reason;
    s->emu_stop((void *)(uintptr_t)s->engine);
}

static int masks_changed(counter_state *s) {
    for (int i = 0; i < 3; i++) {
        uint32_t value = 0;
        s->reg_read((void *)(uintptr_t)s->engine, s->mask_registers[i], &value);
        if (value != s->masks[i]) return 1;
    }
    return 0;
}

static int is_broken(const counter_state *s, const precondition *g) {
    if (g->kind == TRAPPED_ALIGNED && !(s->traps & 8)) return 0;
    if (g->kind == TRAPPED_DIVISION && !(s->traps & 16)) return 0;
    uint32_t sum = g->offset;
    for (int i = 0; i < 3 && g->factors[i]; i++) sum += g->factors[i] * read_register(s, g->registers[i]);
    return g->kind == TRAPPED_DIVISION ? !sum : (sum & g->mask) != 0;
}

/* True when the block must not simply run. */
static int is_suspect(const counter_state *s, const block_record *b) {
    if (b->attention & s->attention) return 1;
    for (uint32_t i = 0; i < b->preconditions; i++)
        if (is_broken(s, &s->preconditions[b->first_precondition + i])) return 1;
    return 0;
}

/* In front of a watched instruction outside IT blocks: stops when it must not run. */
void counter_precondition(void *engine, uint64_t address, uint32_t size, void *user) {
    const precondition *g = user;
    counter_state *s = g->state;
    (void)engine;
    (void)size;
    if (s->stop_reason || s->stepping) return;
    if (g->kind == FLOATING_POINT) {
        if (s->attention & ATTENTION_FLOATS) s->on_float(address);
    } else if (is_broken(s, g)) {
        s->miss_address = (uint32_t)address;
        stop(s, STOP_PRECONDITION);
    }
}

void counter_block(void *engine, uint64_t address, uint32_t size, void *user) {
    counter_state *s = user;
    (void)engine;
    if (s->stop_reason) { /* already stopping: this block runs again after the restart */
        s->emu_stop((void *)(uintptr_t)s->engine);
        return;
    }
    counter_settle(s, (uint32_t)address);
    if (s->active >= s->deadline) {
        stop(s, STOP_DEADLINE);
        return;
    }
    if (s->poll_masks && masks_changed(s)) {
        stop(s, STOP_MASK);
        return;
    }
    uint32_t found = s->table[slot_of(s, (uint32_t)address, size)];
    if (!found) {
        s->miss_address = (uint32_t)address;
        s->miss_size = size;
        stop(s, STOP_MISS);
        return;
    }
    block_record *b = &s->blocks[found - 1];
    if (b->bytes && memcmp(b->bytes, s->ram + (b->address & 0x3FFFFu), b->size)) {
        s->miss_address = found - 1;
        stop(s, STOP_CHANGED);
        return;
    }
    if ((b->preconditions || b->attention) && !s->stepping && is_suspect(s, b)) {
        s->miss_address = found - 1;
        stop(s, STOP_SUSPECT);
        return;
    }
    b->executed++;
    s->instructions += b->instructions;
    s->charged = 0;
    uint32_t expected = s->cache_on ? b->expected : b->uncached;
    if (s->jumped) expected += b->wide_entry;
    if (b->code == FLASH_CODE) expected += fetch_lines(s, b);
    if (b->words) expected += wait_for(s, b, b->first_group, b->early_groups, b->flash_words, b->shared_words);
    charge(s, b->ideal, expected);
    s->last = found;
}

typedef struct {
    const uint8_t *flags; /* one byte a register word: 0 ask Python, 1 an event that is clear, 2 one that is raised */
    uint64_t (*slow_read)(void *, uint64_t, unsigned, void *);
} event_reads;

/* A program that polls an event gets its answer here; every other register is Python's. */
uint64_t events_read(void *engine, uint64_t offset, unsigned size, void *user) {
    const event_reads *e = user;
    uint8_t flag = e->flags[offset >> 2];
    if (flag && size == 4) return flag - 1u;
    return e->slow_read(engine, offset, size, NULL);
}

/* Placed on the memory instructions of blocks that were seen to touch a peripheral, so that time is read at the
 * instruction. */
void counter_access(void *engine, uint64_t address, uint32_t size, void *user) {
    (void)engine;
    (void)size;
    ((counter_state *)user)->access_pc = address;
}

/* counter.py repeats these structs for ctypes and compares their sizes with its own when it loads this file. */
const uint32_t counter_sizes[] = {sizeof(block_record), sizeof(precondition), sizeof(access_group),
                                  sizeof(counter_state), sizeof(event_reads)};
