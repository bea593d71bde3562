// SPDX-License-Identifier: Apache-2.0

import java.util.regex.Pattern;

/** What the servers in Java share: work, and the name of the thread while at it. */
final class Truth {
    private static final String[] METHODS = {"GET", "GET", "POST", "GET"};
    private static final Pattern[] PATHS = {
        Pattern.compile("/work/[^/]+"), Pattern.compile("/tree/[^/]+/leaves"),
        Pattern.compile("/orders/[^/]+/items"), Pattern.compile("/files/.+"),
    };

    private Truth() {}

    /** The letter of the route, or null. */
    static String route(String method, String path) {
        for (int i = 0; i < PATHS.length; i++) {
            if (METHODS[i].equals(method) && PATHS[i].matcher(path).matches()) {
                return String.valueOf((char) ('a' + i));
            }
        }
        return null;
    }

    /** Work for one request. A thread that names itself is named so by the kernel too. */
    static void serve(String letter) {
        Thread.currentThread().setName("work-" + letter);
        switch (letter) {
            case "a": burn(2); break;
            case "b": burn(8); break;
            case "c":
                for (int i = 0; i < 4; i++) {
                    burn(1);
                    pause(1);
                }
                break;
            default: allocate(2);
        }
        Thread.currentThread().setName("idle");
    }

    static void startBackground() {
        Thread t = new Thread(() -> {
            Thread.currentThread().setName("backgrnd");
            while (true) {
                burn(3);
                pause(40);
            }
        });
        t.setDaemon(true);
        t.start();
    }

    static volatile long sink;

    /** About so many milliseconds. */
    static void burn(int ms) {
        long x = 88172645463325252L;
        for (int i = 0; i < ms * 450_000; i++) {
            x ^= x << 13;
            x ^= x >>> 7;
            x ^= x << 17;
        }
        sink = x;
    }

    /** As burn, but it makes garbage. */
    static void allocate(int ms) {
        for (int i = 0; i < ms * 1000; i++) {
            sink += new byte[1024 + i % 7].hashCode() + Integer.toString(i).length();
        }
        burn(ms);
    }

    private static void pause(int ms) {
        try {
            Thread.sleep(ms);
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
    }
}
