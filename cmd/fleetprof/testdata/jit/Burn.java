// SPDX-License-Identifier: Apache-2.0

import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;

// Methods that burn CPU time in known parts: it prints how much each had, in microseconds.
public class Burn {
    static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();
    static final long[] used = new long[3];
    static int sum;

    static int spin(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum = (sum * 31 + i) ^ (sum >>> 7);
        return sum;
    }

    static int alpha() { return spin(2400000) + 1; }
    static int beta() { return spin(1200000) + 2; }
    static int gamma() { return spin(400000) + 3; }

    static void round() {
        long begin = THREADS.getCurrentThreadCpuTime();
        sum ^= alpha();
        long first = THREADS.getCurrentThreadCpuTime();
        sum ^= beta();
        long second = THREADS.getCurrentThreadCpuTime();
        sum ^= gamma();
        long third = THREADS.getCurrentThreadCpuTime();
        used[0] += first - begin;
        used[1] += second - first;
        used[2] += third - second;
    }

    public static void main(String[] args) throws Exception {
        for (int i = 0; i < 300; i++) round(); // compiled by then
        java.util.Arrays.fill(used, 0);
        String pid = String.valueOf(ProcessHandle.current().pid());
        if (new ProcessBuilder("jcmd", pid, "Compiler.perfmap").start().waitFor() != 0) System.exit(1);
        System.out.println("ready");
        System.in.read();
        long end = System.nanoTime() + 4_000_000_000L;
        while (System.nanoTime() < end) round();
        System.out.printf("{\"int Burn.alpha()\":%d,\"int Burn.beta()\":%d,\"int Burn.gamma()\":%d}%n",
            used[0] / 1000, used[1] / 1000, used[2] / 1000);
    }
}
