/* SPDX-License-Identifier: MIT */
#include "faults_json.h"

static void string(const char *key, const char *s, const char *after)
{
    printf("\"%s\":\"", key);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 32 || c >= 127)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    printf("\"%s", after);
}

void fault_json_result(const struct fault_run *r, const char *result)
{
    char name[80];
    printf("{");
    string("fault", fault_name(r->fault, name, sizeof name), ",");
    string("result", result, ",");
    if (r->skipped)
        string("reason", r->skipped, ",");
    if (r->reports) {
        string("kind", kss_report_kind_id(r->report[0].kind), ",");
        string("action", kss_report_action_name(r->report[0].action), ",");
    }
    if (r->trouble[0])
        string("trouble", r->trouble, ",");
    printf("\"reports\":%u,\"run\":%d,\"status\":%d,\"ms\":%.3f,\"checks\":[", r->reports, r->run, r->status, r->ms);
    for (int i = 0; i < r->checks; i++) {
        printf("%s{", i ? "," : "");
        string("name", r->check[i].name, ",");
        printf("\"ok\":%s,", r->check[i].ok ? "true" : "false");
        string("said", r->check[i].said, "}");
    }
    puts("]}");
}

void fault_json_entry(const struct fault *f, const char *name)
{
    printf("{");
    string("fault", name, ",");
    string("row", f->row, ",");
    string("what", f->what, "}\n");
}
