/* The dispatcher: names of engines, and the choice among them. */
#include "query.h"

#include <string.h>

status query_run(const char *method, const query_task *task, query_result *result)
{
    if (strcmp(method, "level") == 0) {
        index_search index;
        query_task screened = *task;
        result->method = "level";
        status outcome = index_build(task->source, task->structure, task->points, task->from,
                                     task->threads, &index);
        if (outcome.code)
            return outcome;
        screened.index = &index;
        outcome = query_level(&screened, result);
        index_free(&index);
        return outcome;
    }
    result->method = "brute";
    return query_brute(task, result);
}
