/* NettyPeer.java: real Netty, hung in the ways the doctor must name, and healthy twins.
 *
 * usage: java -cp NETTY-JARS NettyPeer.java CASE PORT. Prints "ready PID" when the scene stands.
 * One event loop thread and one connection. */
import io.netty.bootstrap.Bootstrap;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioSocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;

public class NettyPeer {
    static final CountDownLatch answered = new CountDownLatch(1);
    static volatile String scene;

    static void ready() {
        System.out.println("ready " + ProcessHandle.current().pid());
        System.out.flush();
    }

    static void ask(Channel channel) {
        byte[] request = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".getBytes(StandardCharsets.US_ASCII);
        channel.writeAndFlush(Unpooled.wrappedBuffer(request));
    }

    static void userCodeBlocks(long ms) throws InterruptedException {
        Thread.sleep(ms);
    }

    static class Handler extends SimpleChannelInboundHandler<ByteBuf> {
        @Override
        protected void channelRead0(ChannelHandlerContext context, ByteBuf bytes) throws Exception {
            answered.countDown();
            if (scene.equals("blocked")) {
                ask(context.channel()); // its answer comes meanwhile
                userCodeBlocks(500);
                ready();
                userCodeBlocks(3600000);
            } else if (scene.equals("blocked-ok")) {
                ask(context.channel());
                userCodeBlocks(50);
            } else if (scene.equals("busy")) {
                ask(context.channel());
            }
        }
    }

    public static void main(String[] args) throws Exception {
        scene = args[0];
        Bootstrap bootstrap = new Bootstrap().group(new NioEventLoopGroup(1)).channel(NioSocketChannel.class)
            .handler(new ChannelInitializer<Channel>() {
                @Override
                protected void initChannel(Channel channel) {
                    channel.pipeline().addLast(new Handler());
                }
            });
        Channel channel = bootstrap.connect("127.0.0.1", Integer.parseInt(args[1])).sync().channel();
        ask(channel);
        if (!scene.equals("one-request")) {
            answered.await();
        }
        if (!scene.equals("blocked")) {
            Thread.sleep(200);
            ready();
        }
        new CountDownLatch(1).await();
    }
}
