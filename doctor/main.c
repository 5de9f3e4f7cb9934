/* main.c: the doctor as a program of its own, for tests and measurements. */
#include "doctor/doctor.h"

int main(int argc, char **argv)
{
    return doctor_main(argc, argv);
}
