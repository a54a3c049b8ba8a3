/* The dispatcher: names of engines, and the choice among them. */
#include "query.h"

#include <string.h>

status query_run(const char *method, const query_task *task, query_result *result)
{
    result->method = "brute";
    (void)method;
    return query_brute(task, result);
}
