/* Messages are formatted on the stack and written with one raw system call. */
#include "message.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "arch.h"

static void say_list(const char *format, va_list arguments)
{
    static const char prefix[] = "softepc: ";
    char line[1024];
    memcpy(line, prefix, sizeof prefix);
    size_t length = sizeof prefix - 1;
    const int wanted = vsnprintf(line + length, sizeof line - length - 1, format, arguments);
    if (wanted > 0)
        length += (size_t)wanted < sizeof line - length - 1 ? (size_t)wanted
                                                            : sizeof line - length - 2;
    line[length++] = '\n';
    RAW3(SYS_write, STDERR_FILENO, line, length);
}

void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_list(format, arguments);
    va_end(arguments);
}

void die(int exit_code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say_list(format, arguments);
    va_end(arguments);
    _exit(exit_code);
}
