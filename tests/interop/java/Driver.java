// The interop driver on Apache Thrift's library for Java (see ../drivers.py). Fields and methods are found by reflection.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;

import org.apache.thrift.TApplicationException;
import org.apache.thrift.TBase;
import org.apache.thrift.TFieldIdEnum;
import org.apache.thrift.meta_data.FieldMetaData;
import org.apache.thrift.protocol.TBinaryProtocol;
import org.apache.thrift.protocol.TCompactProtocol;
import org.apache.thrift.protocol.TProtocol;
import org.apache.thrift.protocol.TType;
import org.apache.thrift.transport.TSocket;
import org.apache.thrift.transport.TTransport;
import org.apache.thrift.transport.layered.TFramedTransport;

public class Driver {
    static TProtocol connect(String form, String address) throws Exception {
        String[] parts = address.split(":");
        TTransport transport = new TSocket(parts[0], Integer.parseInt(parts[1]));
        if (form.endsWith("-framed"))
            transport = new TFramedTransport(transport);
        transport.open();
        return form.startsWith("compact") ? new TCompactProtocol(transport) : new TBinaryProtocol(transport);
    }

    static byte[] bytes(String hex) {
        byte[] result = new byte[hex.length() / 2];
        for (int i = 0; i < result.length; i++)
            result[i] = (byte) Integer.parseInt(hex.substring(2 * i, 2 * i + 2), 16);
        return result;
    }

    static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte b : bytes)
            text.append(Character.forDigit(b >> 4 & 15, 16)).append(Character.forDigit(b & 15, 16));
        return text.toString();
    }

    static Object parse(FieldMetaData field, String text) {
        String rest = text.substring(2);
        switch (field.valueMetaData.type) {
        case TType.STRING:
            return field.valueMetaData.isBinary() ? (Object) ByteBuffer.wrap(bytes(rest))
                                                  : new String(bytes(rest), StandardCharsets.UTF_8);
        case TType.BOOL:
            return rest.equals("1");
        case TType.BYTE:
            return Byte.parseByte(rest);
        case TType.I32:
            return Integer.parseInt(rest);
        default:
            return Long.parseLong(rest);
        }
    }

    static String show(Object value) {
        if (value instanceof Boolean)
            return (Boolean) value ? "t:1" : "t:0";
        if (value instanceof byte[])
            return "s:" + hex((byte[]) value);
        if (value instanceof ByteBuffer) {
            byte[] copy = new byte[((ByteBuffer) value).remaining()];
            ((ByteBuffer) value).duplicate().get(copy);
            return "s:" + hex(copy);
        }
        if (value instanceof String)
            return "s:" + hex(((String) value).getBytes(StandardCharsets.UTF_8));
        return "i:" + value;
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    static Map<? extends TFieldIdEnum, FieldMetaData> table(TBase struct) {
        return FieldMetaData.getStructMetaDataMap((Class) struct.getClass());
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    static String call(Object client, String[] words) throws Throwable {
        Method method = null;
        for (Method candidate : client.getClass().getMethods())
            if (candidate.getName().equals(words[2]))
                method = candidate;
        TBase request = (TBase) method.getParameterTypes()[0].getDeclaredConstructor().newInstance();
        for (int i = 3; i < words.length; i++) {
            String[] parts = words[i].split("=", 2);
            for (Map.Entry<? extends TFieldIdEnum, FieldMetaData> field : table(request).entrySet())
                if (field.getKey().getFieldName().equals(parts[0]))
                    request.setFieldValue(field.getKey(), parse(field.getValue(), parts[1]));
        }
        TBase response;
        try {
            response = (TBase) method.invoke(client, request);
        } catch (InvocationTargetException wrapped) {
            throw wrapped.getCause();
        }
        StringBuilder text = new StringBuilder("ok");
        for (TFieldIdEnum field : table(response).keySet())
            if (response.isSet(field))
                text.append('\t').append(field.getFieldName()).append('=').append(show(response.getFieldValue(field)));
        return text.toString();
    }

    public static void main(String[] args) throws Exception {
        Map<String, Object> clients = Map.of(
            "coordinator", new ZkServer_Operations.Client(connect(args[0], args[1])),
            "broker", new Server_Operations.Client(connect(args[0], args[2])),
            "stranger", new ZkServer_Operations.Client(connect(args[0], args[2])));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        for (String line; (line = lines.readLine()) != null;) {
            String[] words = line.split("\t");
            String answer;
            try {
                answer = call(clients.get(words[1]), words);
            } catch (TApplicationException refusal) {
                answer = "exception\t" + refusal.getType() + "\t" + hex(String.valueOf(refusal.getMessage()).getBytes("UTF-8"));
            } catch (Throwable error) {
                answer = "error\t" + hex(error.toString().getBytes("UTF-8"));
            }
            out.println(words[0] + "\t" + answer);
        }
    }
}
