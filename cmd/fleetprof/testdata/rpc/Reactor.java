// SPDX-License-Identifier: Apache-2.0

import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** One thread reads all requests, a pool of others works and writes the answers: Reactor PORT. */
final class Reactor {
    private final Selector selector = Selector.open();
    private final ExecutorService workers = Executors.newFixedThreadPool(4);
    private final Queue<Connection> answered = new ConcurrentLinkedQueue<>();

    private Reactor() throws IOException {}

    public static void main(String[] args) throws IOException {
        var listener = ServerSocketChannel.open();
        listener.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])), 128);
        Truth.startBackground();
        new Reactor().run(listener);
    }

    private void run(ServerSocketChannel listener) throws IOException {
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
        Thread.currentThread().setName("selector");
        while (true) {
            selector.select();
            for (Connection c; (c = answered.poll()) != null; ) {
                c.next();
            }
            for (SelectionKey key : selector.selectedKeys()) {
                if (!key.isValid()) {
                    continue;
                }
                if (key.isAcceptable()) {
                    accept(listener.accept());
                } else if (key.isReadable()) {
                    ((Connection) key.attachment()).read();
                }
            }
            selector.selectedKeys().clear();
        }
    }

    private void accept(SocketChannel channel) throws IOException {
        channel.configureBlocking(false);
        channel.setOption(java.net.StandardSocketOptions.TCP_NODELAY, true);
        var c = new Connection(channel);
        c.key = channel.register(selector, SelectionKey.OP_READ, c);
    }

    /** Belongs to the selector's thread, but while a request is with a worker to that. */
    private final class Connection {
        private final SocketChannel channel;
        private final ByteBuffer buffer = ByteBuffer.allocate(16384);
        private SelectionKey key;
        private boolean last;

        Connection(SocketChannel channel) {
            this.channel = channel;
        }

        void read() throws IOException {
            int n;
            try {
                n = channel.read(buffer);
            } catch (IOException e) {
                n = -1; // reset by the client
            }
            if (n < 0) {
                channel.close();
                return;
            }
            dispatch();
        }

        /** Goes on after an answer, with what was read already if that is a request. */
        void next() throws IOException {
            if (last) {
                channel.close();
                return;
            }
            key.interestOps(SelectionKey.OP_READ);
            dispatch();
        }

        /** Hands a request to a worker if the whole of it is there. */
        private void dispatch() {
            String text = new String(buffer.array(), 0, buffer.position(), StandardCharsets.ISO_8859_1);
            int head = text.indexOf("\r\n\r\n");
            if (head < 0) {
                return;
            }
            String[] lines = text.substring(0, head).split("\r\n");
            int length = 0;
            for (String line : lines) {
                String field = line.toLowerCase();
                if (field.startsWith("content-length: ")) {
                    length = Integer.parseInt(field.substring(16));
                } else if (field.equals("connection: close")) {
                    last = true;
                }
            }
            if (buffer.position() < head + 4 + length) {
                return;
            }
            buffer.flip().position(head + 4 + length);
            buffer.compact();
            key.interestOps(0);
            String[] line = lines[0].split(" ");
            workers.execute(() -> answer(Truth.route(line[0], line[1].split("\\?")[0])));
        }

        private void answer(String letter) {
            if (letter != null) {
                Truth.serve(letter);
            }
            String text = letter != null ? "200 OK\r\nContent-Length: 1\r\n\r\n" + letter : "404 Not Found\r\nContent-Length: 0\r\n\r\n";
            var out = ByteBuffer.wrap(("HTTP/1.1 " + text).getBytes());
            try {
                while (out.hasRemaining()) {
                    channel.write(out);
                }
            } catch (IOException e) {
                last = true; // the client is gone
            }
            answered.add(this);
            selector.wakeup();
        }
    }
}
