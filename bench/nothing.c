/*
 * nothing.c - the trivial job. Static, so that starting it costs as little as starting anything can.
 */
int main(void)
{
	return 0;
}
