/* SPDX-License-Identifier: MIT */
/* Pictures of stacks: complete, in order, readable by others. */
#include "harness.h"

#include <unistd.h>

static struct kss_stack_picture pictures[2], *const picture = &pictures[0];
static char text[1 << 16], svg[1 << 18];

/* ---- what every picture must be ---------------------------------------------------------------------- */

/* Parts cover the stack without gaps or overlaps, in order, and their sizes add up to it. */
static void check_picture(const struct kss_stack_picture *p)
{
    size_t inside = 0;
    ck_assert_msg(kss_picture_check(p) == 0, "%s", kss_last_error());
    for (unsigned i = 0; i < p->parts; i++) {
        const struct kss_stack_part *part = &p->part[i];
        ck_assert_uint_lt(part->low, part->high);
        if (i)
            ck_assert_uint_eq(part->high, part[-1].low);
        if (part->kind != KSS_PART_GUARD && part->kind != KSS_PART_BEYOND)
            inside += part->high - part->low;
        ck_assert_uint_gt(strlen(part->label), 0);
    }
    ck_assert_uint_eq(inside, p->high - p->low);
}

static const struct kss_stack_part *find_part(const struct kss_stack_picture *p, enum kss_part_kind kind,
                                              const char *label)
{
    for (unsigned i = 0; i < p->parts; i++)
        if (p->part[i].kind == kind && strncmp(p->part[i].label, label, strlen(label)) == 0)
            return &p->part[i];
    return NULL;
}

/* Read by a parser of XML that this project has not written. */
static void check_svg(const struct kss_stack_picture *p, unsigned count)
{
    char name[] = "/tmp/kss-picture-XXXXXX", command[400];
    int n = kss_picture_svg(p, count, svg, sizeof svg);
    ck_assert_msg(n > 0, "svg: %s", kss_last_error());
    ck_assert_int_lt(n, (int)sizeof svg);
    ck_assert_uint_eq(strlen(svg), (size_t)n);
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, svg, (size_t)n), n);
    close(fd);
    snprintf(command, sizeof command,
             "if command -v xmllint > /dev/null; then xmllint --noout %s; "
             "elif python3 -c 'import xml.dom.minidom' 2> /dev/null; then "
             "python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' %s; fi", name, name);
    ck_assert_msg(system(command) == 0, "not well-formed: %s", name);
    unlink(name);
}

static void check_drawn(const struct kss_stack_picture *p)
{
    check_picture(p);
    int n = kss_picture_text(p, text, sizeof text);
    ck_assert_int_gt(n, 200);
    ck_assert_uint_eq(strlen(text), (size_t)n);
    check_svg(p, 1);
    for (unsigned i = 0; i < p->parts; i++)
        ck_assert_msg(strstr(text, p->part[i].label) != NULL, "%s is not in the text", p->part[i].label);
}

/* ---- a blocked thread ------------------------------------------------------------------------------------ */

static struct kss_wait_queue queue;
static _Atomic bool go;

KEEP_FRAME static long blocked_inner(void *arg)
{
    volatile char room[600];
    room[0] = arg != NULL;
    kss_wait_event(&queue, go);
    return room[0];
}

KEEP_FRAME static long blocked_outer(void *arg)
{
    volatile long r = blocked_inner(arg);
    return r;
}

static long sleeper(void *arg)
{
    return in_kernel(blocked_outer, arg);
}

static long look_at_sleeper(void *arg)
{
    struct kss_kstack_info k;
    struct kss_frame f[32];
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    ck_assert_int_eq(kss_picture_thread(t, picture), 0);
    ck_assert_int_eq(kss_kstack_info(t, &k), 0);
    int n = kss_backtrace(t, f, 32);
    check_picture(picture);
    ck_assert_uint_eq(picture->low, k.low);
    ck_assert_uint_eq(picture->high, k.high);
    ck_assert_uint_eq(picture->sp, k.sp);
    ck_assert_uint_eq(picture->high_water, k.high_water);
    ck_assert_uint_eq(picture->part[0].high - picture->high, k.guard_high);
    ck_assert_uint_eq(picture->low - picture->part[picture->parts - 1].low, k.guard_low);
    /* each function's frame as the backtrace has it */
    for (int i = 0; i < n && f[i].kind != KSS_FRAME_TRAP; i++) {
        const struct kss_stack_part *part = NULL;
        for (unsigned j = 0; j < picture->parts; j++)
            if (picture->part[j].low == f[i].sp)
                part = &picture->part[j];
        ck_assert_msg(part && part->high - part->low == f[i].size, "the frame of %s", f[i].symbol);
    }
    go = true;
    kss_wake_up(&queue, 0);
    return 0;
}

static long blocked_main(void *arg)
{
    struct kss_spawn_attr attr = { .name = "<sleeper> & \"co\"" }; /* a name that XML does not like */
    (void)arg;
    kss_wait_queue_init(&queue, "q<&>");
    long pid = kss_spawn(sleeper, NULL, &attr);
    test_wait_asleep(pid);
    ck_assert_int_eq(in_kernel(look_at_sleeper, (void *)pid), 0);
    return kss_wait(pid, NULL) != pid;
}

START_TEST(picture_of_a_blocked_thread)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, blocked_main, NULL), 0);
    check_drawn(picture);
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_TRAP, "trap frame: system call in user mode"));
    const struct kss_stack_part *inner = find_part(picture, KSS_PART_FRAME, "blocked_inner+");
    const struct kss_stack_part *outer = find_part(picture, KSS_PART_FRAME, "blocked_outer+");
    ck_assert_ptr_nonnull(inner);
    ck_assert_ptr_eq(outer, inner - 1);
    ck_assert_uint_ge(inner->high - inner->low, 600);
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_UNUSED, "never used"));
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_CANARY, "canary, intact"));
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_THREAD_INFO, "thread_info"));
    ck_assert_ptr_nonnull(strstr(svg, "stack pointer"));
    ck_assert_ptr_nonnull(strstr(svg, "high-water mark"));
    ck_assert_ptr_nonnull(strstr(svg, "&#60;sleeper&#62; &#38; &#34;co&#34;"));
}
END_TEST

/* ---- the caller's own stack, interrupted ------------------------------------------------------------------ */

static long depth_wanted;

static void picture_isr(unsigned line, void *arg)
{
    (void)arg;
    ck_assert_int_eq(kss_picture_thread(NULL, &pictures[1]), 0);
    kss_irq_eoi(line);
}

KEEP_FRAME static long descend(long n)
{
    volatile char room[64];
    room[0] = (char)n;
    if (n < depth_wanted)
        return descend(n + 1) + room[0] * 0;
    ck_assert_int_eq(kss_picture_thread(NULL, picture), 0);
    return kss_irq_raise(kss_machine_current(), 0, 40);
}

static long descend_in_kernel(void *arg)
{
    return descend((long)arg);
}

static long descend_main(void *arg)
{
    (void)arg;
    return in_kernel(descend_in_kernel, (void *)1);
}

static void descend_to(long depth, const struct kss_config *c)
{
    depth_wanted = depth;
    struct kss_machine *m = test_machine(c);
    ck_assert_int_eq(kss_irq_request(m, 40, picture_isr, NULL, "picture"), 0);
    ck_assert_int_eq(test_run(m, descend_main, NULL), 0);
    kss_machine_destroy(m);
    check_drawn(&pictures[0]);
    check_drawn(&pictures[1]);
    check_svg(pictures, 2);
}

START_TEST(picture_of_the_caller)
{
    struct kss_config c = test_config();
    descend_to(5, &c);
    /* It ends with the function that asked, and that is called in an interrupt as well. */
    const struct kss_stack_part *last = NULL;
    for (unsigned i = 0; i < picture->parts; i++)
        if (picture->part[i].kind == KSS_PART_FRAME)
            last = &picture->part[i];
    ck_assert_int_eq(strncmp(last->label, "descend+", 8), 0);
    ck_assert_uint_eq(last->low, picture->sp);
    ck_assert_ptr_nonnull(find_part(&pictures[1], KSS_PART_TRAP, "trap frame: device interrupt in kernel mode"));
    ck_assert_ptr_nonnull(find_part(&pictures[1], KSS_PART_FRAME, "picture_isr+"));
    ck_assert_uint_lt(pictures[1].sp, pictures[0].sp);
    /* A recursion is one row in the drawing, and has all its frames in the picture. */
    ck_assert_ptr_nonnull(strstr(svg, "descend: "));
}
END_TEST

START_TEST(picture_with_an_interrupt_stack)
{
    struct kss_config c = test_config();
    c.irq_stacks = KSS_IRQ_STACKS_PER_CPU;
    c.poison = false;
    c.guards = KSS_GUARDS_NONE;
    descend_to(3, &c);
    ck_assert_ptr_null(find_part(&pictures[1], KSS_PART_FRAME, "picture_isr+")); /* it is on the other stack */
    ck_assert_ptr_nonnull(find_part(&pictures[1], KSS_PART_TRAP, "trap frame: device interrupt in kernel mode"));
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_UNUSED, "free"));
    ck_assert_uint_eq(picture->high_water, 0);
}
END_TEST

START_TEST(picture_of_more_frames_than_it_holds)
{
    struct kss_config c = test_config();
    c.kstack_size = KSS_TEST_ASAN ? 262144 : 65536; /* its frames are larger */
    descend_to(KSS_PICTURE_PARTS + 40, &c);
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_FRAME, "outer frames, not listed"));
}
END_TEST

/* ---- of a report -------------------------------------------------------------------------------------------- */

KEEP_FRAME static long endless(long n)
{
    volatile char room[300];
    room[0] = (char)n;
    return n < 0 ? 0 : endless(n + 1) + room[0]; /* not that it would */
}

static long endless_in_kernel(void *arg)
{
    return endless((long)arg);
}

static long overflow_main(void *arg)
{
    (void)arg;
    return in_kernel(endless_in_kernel, NULL);
}

START_TEST(picture_of_an_overflow)
{
    struct kss_config c = test_config();
    c.kstack_size = KSS_TEST_ASAN ? 65536 : 32768; /* as many frames as without it */
    report_count = 0;
    test_boot(&c, overflow_main, NULL);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_STACK_OVERFLOW);
    ck_assert_int_eq(kss_picture_report(&reports[0], picture), 0);
    check_drawn(picture);
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_FRAME, "outer frames, not listed"));
    ck_assert_ptr_nonnull(find_part(picture, KSS_PART_FRAME, "endless+"));
    ck_assert_uint_eq(picture->guard_low, reports[0].guard_low);
    ck_assert_uint_ge(picture->guard_low, c.guard_size);

    /* Past the end: what is there is shown, and what is left of the guard. */
    reports[0].sp = reports[0].stack_low - 200;
    ck_assert_int_eq(kss_picture_report(&reports[0], picture), 0);
    check_drawn(picture);
    const struct kss_stack_part *beyond = find_part(picture, KSS_PART_BEYOND, "past the end");
    ck_assert_ptr_nonnull(beyond);
    ck_assert_uint_eq(beyond->low, picture->sp);
    ck_assert_ptr_nonnull(strstr(svg, "200 past the end"));
    ck_assert_uint_eq(picture->part[picture->parts - 1].low, picture->low - picture->guard_low);
}
END_TEST

/* A pseudo-random number that is sometimes a likely one. */
static uint64_t odd_number(uint64_t *state, uint64_t likely)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    switch (*state >> 61) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX - (*state >> 58) % 4;
    case 2:
        return *state;
    case 3:
        return *state >> 40;
    default:
        return likely + (*state >> 52) % 2000 - 1000;
    }
}

/* Whatever a report says, there is a good picture or an error. */
START_TEST(pictures_of_nonsense)
{
    static struct kss_report r;
    uint64_t state = 1;
    unsigned drawn = 0;
    for (int i = 0; i < 20000; i++) {
        memset(&r, 0, sizeof r);
        r.stack = (enum kss_stack_kind)(i % (KSS_STACK_UNKNOWN + 1));
        r.stack_low = i % 7 ? 0x7f0000010000 : odd_number(&state, 0x7f0000010000);
        r.stack_high = i % 5 ? r.stack_low + 32768 : odd_number(&state, r.stack_low + 32768);
        r.sp = odd_number(&state, r.stack_low + (i % 3 ? 5000 : 0));
        r.user_frame = odd_number(&state, r.stack_high - 3000);
        r.high_water = odd_number(&state, 9000);
        r.guard_low = odd_number(&state, 65536);
        r.guard_high = odd_number(&state, 65536);
        r.frames = i % (KSS_REPORT_FRAMES + 2) - 1;
        for (int f = 0; f < r.frames; f++) {
            r.frame[f].kind = (enum kss_frame_kind)(odd_number(&state, 0) % 3);
            r.frame[f].sp = odd_number(&state, r.sp + 300 * (unsigned)f);
            r.frame[f].size = odd_number(&state, 300);
            memset(r.frame[f].symbol, 1 + i % 255, sizeof r.frame[f].symbol - 1);
        }
        memset(r.message, 1 + i % 255, sizeof r.message - 1);
        if (kss_picture_report(&r, picture) < 0)
            continue;
        check_picture(picture);
        ck_assert_int_gt(kss_picture_text(picture, text, sizeof text), 0);
        ck_assert_int_gt(kss_picture_svg(picture, 1, svg, sizeof svg), 0);
        if (drawn++ % 500 == 0)
            check_svg(picture, 1);
    }
    ck_assert_uint_gt(drawn, 2000);
}
END_TEST

/* ---- bad input ---------------------------------------------------------------------------------------------- */

#define REFUSED(call) \
    do { \
        ck_assert_int_eq(call, -EINVAL); \
        ck_assert_uint_gt(strlen(kss_last_error()), 0); \
    } while (0)

START_TEST(bad_pictures_are_refused)
{
    static struct kss_stack_picture p;
    static struct kss_report r;
    REFUSED(kss_picture_thread(NULL, NULL));
    ck_assert_int_eq(kss_picture_thread(NULL, &p), -EPERM);
    REFUSED(kss_picture_report(NULL, &p));
    REFUSED(kss_picture_report(&r, NULL));
    ck_assert_int_eq(kss_picture_report(&r, &p), -ENODATA);
    REFUSED(kss_picture_check(NULL));
    REFUSED(kss_picture_check(&p));
    REFUSED(kss_picture_text(NULL, text, 10));
    REFUSED(kss_picture_svg(NULL, 1, svg, 10));
    REFUSED(kss_picture_svg(&p, 0, svg, 10));
    p = (struct kss_stack_picture){
        .low = 4096,
        .high = 8192,
        .sp = 8000,
        .parts = 2,
        .part = {{KSS_PART_FRAME, 8000, 8192, "f"}, {KSS_PART_UNUSED, 4096, 8000, "u"}}};
    check_picture(&p);
    REFUSED(kss_picture_text(&p, NULL, 10));
    REFUSED(kss_picture_svg(&p, 1, NULL, 10));
    ck_assert_int_eq(kss_picture_text(&p, NULL, 0), kss_picture_text(&p, text, sizeof text));
    ck_assert_int_eq(kss_picture_svg(&p, 1, NULL, 0), kss_picture_svg(&p, 1, svg, sizeof svg));
    ck_assert_int_gt(kss_picture_text(&p, text, 40), 40); /* cut, and ended */
    ck_assert_uint_eq(strlen(text), 39);

    struct kss_stack_picture good = p;
#define BREAK(change) \
    do { \
        p = good; \
        change; \
        REFUSED(kss_picture_check(&p)); \
        REFUSED(kss_picture_text(&p, text, sizeof text)); \
        REFUSED(kss_picture_svg(&p, 1, svg, sizeof svg)); \
    } while (0)
    BREAK(p.parts = 0);
    BREAK(p.parts = KSS_PICTURE_PARTS + 1);
    BREAK(p.part[0].low = 7999);
    BREAK(p.part[0].kind = KSS_PART_KINDS);
    BREAK(p.part[1].kind = KSS_PART_GUARD);
    BREAK(p.part[1].low = 4097);
    BREAK(p.high = 9000);
    BREAK(p.sp = 100);
    BREAK(p.high_water = 5000);
    BREAK(memset(p.title, 'x', sizeof p.title));
    BREAK(memset(p.part[1].label, 'x', sizeof p.part[1].label));
    ck_assert_str_eq(kss_part_kind_name(KSS_PART_KINDS), "?");
    ck_assert_str_eq(kss_part_kind_id((enum kss_part_kind)-1), "?");
    ck_assert_str_eq(kss_part_kind_id(KSS_PART_TRAP), "trap-frame");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_picture");
    TCase *c = tcase_create("live_picture");
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    tcase_add_test(c, picture_of_a_blocked_thread);
    tcase_add_test(c, picture_of_the_caller);
    tcase_add_test(c, picture_with_an_interrupt_stack);
    tcase_add_test(c, picture_of_more_frames_than_it_holds);
    tcase_add_test(c, picture_of_an_overflow);
    tcase_add_test(c, pictures_of_nonsense);
    tcase_add_test(c, bad_pictures_are_refused);
    return s;
}

int main(void)
{
    return test_main(suite);
}
